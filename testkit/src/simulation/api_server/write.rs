//! Creates, updates and patches, in the order of the checks of the API server.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Answer, State,
    admission::Review,
    kinds::{Kind, Strategy},
    metadata, namespaces, patch, quota,
    request::{Request, Unclear, Verb},
    status::{FieldError, Refusal},
    store::{self, Stored, Types},
    typed,
};

/// The characters of generated names.
const NAME_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The number of generated characters.
const NAME_SUFFIX: usize = 5;
/// The longest name to which a suffix is added.
const GENERATED_NAME_BYTES: usize = 63 - NAME_SUFFIX;
/// The most bytes of a request.
const BODY_BYTES: usize = 3 << 20;
/// The most bytes that etcd stores.
const STORED_BYTES: usize = 3 << 19;

impl State {
    pub(super) fn create(&mut self, request: &Request) -> Result<Answer, Unclear> {
        let kind = &request.kind;
        let mut object = parse(request)?;
        self.decode(request, &mut object, true)?;
        let name = self.place(request, &mut object)?;
        if let Some(namespace) = &request.namespace {
            self.check_namespace(kind, namespace, &name)?;
        }
        self.mutate(request, &name, &mut object, None)?;
        self.create_decoded(request, &name, object)
    }

    /// The part of a create that an update of an absent Lease or Event shares.
    fn create_decoded(
        &mut self,
        request: &Request,
        name: &str,
        mut object: Value,
    ) -> Result<Answer, Unclear> {
        let kind = &request.kind;
        if object["metadata"].get("resourceVersion").is_some() && request.verb == Verb::Create {
            let words = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "", words).into());
        }
        prepare_create(kind, &mut object);
        let now = self.now();
        let uid = self.ids.uid();
        let meta = &mut object["metadata"];
        meta["creationTimestamp"] = now.to_string().into();
        meta["uid"] = uid.into();
        let mut errors = Vec::new();
        metadata::validate(kind, &object["metadata"], &mut errors);
        validate(kind, &object, None, &mut errors);
        if !errors.is_empty() {
            return Err(Refusal::invalid(kind, name, &errors).into());
        }
        self.hooks.validate(&review(request, name, None), &object)?;
        quota::check(&self.definitions, &self.store, kind, request.namespace.as_deref(), name)?;
        let key = store::key(request.namespace.as_deref(), name);
        if let Some(existing) = self.store.get(kind, &key) {
            return Err(Refusal::already_exists(kind, name, existing.is_deleting()).into());
        }
        let lacks_defaults = kind.is_custom() && object.get("status").is_none();
        if lacks_defaults {
            kind.schema.fill_defaults(&mut object);
        }
        if request.is_dry_run() {
            return Ok(Answer::complete(201, text(request, &Stored::new(object, now))));
        }
        check_size(request, &object)?;
        let lacks_defaults = lacks_defaults && object.get("status").is_some();
        let stored = self.put(kind, &key, Stored::new(object, now).lacking_defaults(lacks_defaults));
        Ok(Answer::complete(201, text(request, &stored)))
    }

    pub(super) fn update(&mut self, request: &Request) -> Result<Answer, Unclear> {
        let (kind, name) = (&request.kind, request.name());
        let mut object = parse(request)?;
        self.decode(request, &mut object, true)?;
        check_place(request, &mut object)?;
        object["metadata"]["name"] = name.into();
        let existing = self.store.get(kind, &request.key()).cloned();
        let uid = object["metadata"]["uid"].as_str();
        let stored_uid = existing.as_deref().map_or("", Stored::uid);
        let is_found = existing.is_some() || kind.is_created_by_update();
        if let Some(uid) = uid.filter(|uid| is_found && *uid != stored_uid) {
            let words = format!(
                "StorageError: invalid object, Code: 4, Key: {}/{}/{}, ResourceVersion: 0, AdditionalErrorMsg: \
                 Precondition failed: UID in precondition: {uid}, UID in object meta: {stored_uid}",
                if request.is_dry_run() { "" } else { "/registry" },
                kind.storage_prefix(),
                request.key()
            );
            return Err(Refusal::conflict(kind, name, &words).into());
        }
        match existing {
            Some(existing) => self.replace(request, &existing, object),
            None if kind.is_created_by_update() => {
                if let Some(namespace) = &request.namespace {
                    self.check_namespace(kind, namespace, name)?;
                }
                self.mutate(request, name, &mut object, None)?;
                self.create_decoded(request, name, object)
            }
            None => Err(Refusal::not_found(kind, name).into()),
        }
    }

    pub(super) fn patch(&mut self, request: &Request) -> Result<Answer, Unclear> {
        let kind = &request.kind;
        let existing = self.store.get(kind, &request.key()).cloned();
        let existing = existing.ok_or_else(|| Refusal::not_found(kind, request.name()))?;
        let mut object = existing.value.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.as_str().into();
        patch::apply(request, &mut object)?;
        self.decode(request, &mut object, false)?;
        check_place(request, &mut object)?;
        self.replace(request, &existing, object)
    }

    /// Replaces an object by another version.
    fn replace(
        &mut self,
        request: &Request,
        existing: &Arc<Stored>,
        mut object: Value,
    ) -> Result<Answer, Unclear> {
        let (kind, name) = (&request.kind, request.name());
        let old = &existing.value;
        match object["metadata"]["resourceVersion"].as_str() {
            None | Some("0") if kind.allows_unconditional_update() => {}
            None | Some("0") => return Err(Refusal::without_version(kind, name).into()),
            Some(version) if version == existing.version() => {}
            Some(_) => return Err(Refusal::outdated(kind, name).into()),
        }
        self.mutate(request, name, &mut object, Some(old))?;
        object["metadata"]["resourceVersion"] = existing.version().into();
        prepare_update(request, &mut object, old);
        let mut errors = Vec::new();
        metadata::validate_update(kind, &object["metadata"], &old["metadata"], &mut errors);
        if request.of_status && kind.is_custom() {
            validate_status(kind, &object, old, &mut errors);
        } else {
            validate(kind, &object, Some(old), &mut errors);
        }
        if !errors.is_empty() {
            return Err(Refusal::invalid(kind, name, &errors).into());
        }
        self.hooks.validate(&review(request, name, Some(old)), &object)?;
        let now = self.now();
        let key = request.key();
        let is_over = existing.is_deleting()
            && metadata::finalizers(&object["metadata"]).next().is_none()
            && (kind.strategy != Strategy::Namespace || object["spec"].get("finalizers").is_none());
        if is_over && !request.is_dry_run() {
            // Its last version is deleted without an update before.
            self.remove(kind, &key);
        }
        if is_over || request.is_dry_run() {
            return Ok(Answer::complete(200, text(request, &Stored::new(object, now))));
        }
        if object == *old && !existing.lacks_defaults {
            return Ok(Answer::complete(200, text(request, existing)));
        }
        check_size(request, &object)?;
        let stored = self.put(kind, &key, Stored::new(object, now));
        Ok(Answer::complete(200, text(request, &stored)))
    }

    /// Decodes an object: keeps what the schema knows, and fills in defaults.
    fn decode(&mut self, request: &Request, object: &mut Value, checks_types: bool) -> Result<(), Unclear> {
        let kind = &request.kind;
        if checks_types {
            check_types(kind, object)?;
        }
        if let Some(fields) = object.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
            fields.entry("metadata").or_insert_with(|| json!({}));
        }
        let unreadable = |words: &str| {
            let (version, name) = (&kind.version, &kind.kind);
            let message = format!("{name} in version {version:?} cannot be handled as a {name}: {words}");
            if request.verb == Verb::Patch {
                Refusal::of_patch(&message)
            } else {
                Refusal::bad_request(message)
            }
        };
        let mut unknown = Vec::new();
        metadata::decode(&mut object["metadata"], &mut unknown).map_err(|words| unreadable(&words))?;
        kind.schema.prune(object, "", &mut unknown);
        if request.parameter("fieldValidation") == "Strict" && !unknown.is_empty() {
            let fields: Vec<_> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
            return Err(unreadable(&format!("strict decoding error: {}", fields.join(", "))).into());
        }
        if kind.is_custom() {
            kind.schema.fill_defaults(object);
            return Ok(());
        }
        unknown.retain(|field| !field.starts_with("deprecated"));
        if let Some(field) = unknown.first() {
            return Err(Unclear::Unmodelled(format!("the field `{field}` of the kind `{}`", kind.kind)));
        }
        kind.schema.omit_empty(object);
        let mut errors = Vec::new();
        kind.schema.validate(object, None, "", &mut errors);
        if let Some(error) = errors.first() {
            return Err(unreadable(&error.body).into());
        }
        typed::decode(kind.strategy, object).map_err(|words| unreadable(&words))?;
        if let Some(limit) = quota::unmodelled(object).filter(|_| kind.strategy == Strategy::Quota) {
            return Err(Unclear::Unmodelled(format!("the quota of `{limit}`")));
        }
        let finalizers = metadata::finalizers(&object["metadata"]);
        let mut unmodelled = finalizers.filter(|name| metadata::UNMODELLED_FINALIZERS.contains(name));
        unmodelled.next().map_or(Ok(()), |name| Err(Unclear::Unmodelled(format!("the finalizer `{name}`"))))
    }

    /// Gives a new object its namespace and its name, and returns the name.
    fn place(&mut self, request: &Request, object: &mut Value) -> Result<String, Refusal> {
        check_namespace_field(request, object)?;
        let meta = &mut object["metadata"];
        for field in
            ["uid", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
        {
            meta.as_object_mut().map(|meta| meta.remove(field));
        }
        let (name, prefix) = (meta["name"].as_str(), meta["generateName"].as_str());
        if let (None, Some(prefix)) = (name, prefix) {
            let prefix: String = prefix.chars().take(GENERATED_NAME_BYTES).collect();
            meta["name"] = format!("{prefix}{}", self.ids.suffix()).into();
            if request.kind.strategy == Strategy::Namespace {
                meta["labels"]["kubernetes.io/metadata.name"] = meta["name"].clone();
            }
        }
        Ok(meta["name"].as_str().unwrap_or_default().to_owned())
    }

    fn mutate(
        &mut self,
        request: &Request,
        name: &str,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Unclear> {
        if self.hooks.has_mutating() && self.hooks.mutate(&review(request, name, old), object) {
            self.decode(request, object, false)?;
        }
        Ok(())
    }
}

impl super::Ids {
    fn suffix(&mut self) -> String {
        (0..NAME_SUFFIX)
            .map(|_| char::from(NAME_CHARACTERS[self.random.usize(..NAME_CHARACTERS.len())]))
            .collect()
    }
}

/// The write as hooks see it.
pub(super) fn review<'a>(request: &'a Request, name: &'a str, old: Option<&'a Value>) -> Review<'a> {
    Review {
        verb: if request.verb == Verb::Patch { Verb::Update } else { request.verb },
        resource: &request.kind.plural,
        of_status: request.of_status,
        namespace: request.namespace.as_deref().unwrap_or_default(),
        name,
        old,
        is_dry_run: request.is_dry_run(),
        caller: &request.caller,
    }
}

fn parse(request: &Request) -> Result<Value, Refusal> {
    if request.body.len() > BODY_BYTES {
        let words = "Request entity too large: limit is 3145728";
        return Err(Refusal::new(413, "RequestEntityTooLarge", words));
    }
    let value: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))?;
    if !value.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized (must be of type object)"));
    }
    Ok(value)
}

fn check_types(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let expected = kind.api_version();
    match (object["apiVersion"].as_str(), object["kind"].as_str()) {
        (Some(version), Some(name)) if version == expected && name == kind.kind => Ok(()),
        (None, None) if !kind.is_custom() => Ok(()),
        (Some(version), Some(_)) if version != expected => Err(Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        ))),
        (Some(_), Some(name)) => Err(Refusal::bad_request(format!(
            "the kind in the data ({name}) does not match the expected kind ({})",
            kind.kind
        ))),
        _ => Err(Refusal::bad_request("Object 'Kind' is missing")),
    }
}

fn check_namespace_field(request: &Request, object: &mut Value) -> Result<(), Refusal> {
    let given = object["metadata"]["namespace"].as_str();
    match (&request.namespace, given) {
        (Some(namespace), None) => {
            object["metadata"]["namespace"] = namespace.as_str().into();
            Ok(())
        }
        (Some(namespace), Some(given)) if given == namespace => Ok(()),
        // Objects of the cluster lose a namespace.
        (None, _) => {
            object["metadata"].as_object_mut().map(|metadata| metadata.remove("namespace"));
            Ok(())
        }
        _ => Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Checks that an object of an update has the name and the namespace of the path.
fn check_place(request: &Request, object: &mut Value) -> Result<(), Refusal> {
    let (name, expected) = (object["metadata"]["name"].as_str().unwrap_or_default(), request.name());
    if name != expected && !name.is_empty() {
        let words =
            format!("the name of the object ({name}) does not match the name on the URL ({expected})");
        return Err(Refusal::bad_request(words));
    }
    check_namespace_field(request, object)
}

fn prepare_create(kind: &Kind, object: &mut Value) {
    match kind.strategy {
        Strategy::Custom => {
            object["metadata"]["generation"] = 1.into();
            if kind.has_status {
                remove(object, "status");
            }
        }
        Strategy::Namespace => namespaces::prepare_create(object),
        Strategy::Quota => object["status"] = json!({}),
        Strategy::Secret | Strategy::Event | Strategy::Lease | Strategy::Workload => {}
    }
}

/// Restores what an update can't change.
fn prepare_update(request: &Request, object: &mut Value, old: &Value) {
    let kind = &request.kind;
    if request.of_status && kind.is_custom() {
        let status = object.get("status").cloned();
        object.clone_from(old);
        restore(object, "status", status.as_ref());
        return;
    }
    let (meta, old_meta) = (&mut object["metadata"], &old["metadata"]);
    for field in ["generation", "creationTimestamp"] {
        restore(meta, field, old_meta.get(field));
    }
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds", "namespace", "name"] {
        let is_kept =
            matches!(field, "deletionTimestamp" | "deletionGracePeriodSeconds") || meta.get(field).is_none();
        if let Some(value) = old_meta.get(field).filter(|_| is_kept) {
            meta[field] = value.clone();
        }
    }
    if request.of_status {
        restore(object, "spec", old.get("spec"));
        return;
    }
    if kind.has_status {
        restore(object, "status", old.get("status"));
    }
    if kind.strategy == Strategy::Namespace {
        restore(object, "spec", old.get("spec"));
    }
    if kind.is_custom() && differs_in_spec(object, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Whether anything but the metadata and the status has changed.
fn differs_in_spec(object: &Value, old: &Value) -> bool {
    let differs = |one: &Value, other: &Value| {
        let mut fields = one.as_object().into_iter().flatten();
        fields.any(|(field, value)| {
            !matches!(field.as_str(), "metadata" | "status") && other.get(field) != Some(value)
        })
    };
    differs(object, old) || differs(old, object)
}

fn restore(object: &mut Value, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => object[field] = value.clone(),
        None => remove(object, field),
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// Validates all but the metadata.
fn validate(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if !kind.is_custom() {
        typed::validate(kind.strategy, object, old, errors);
        return;
    }
    kind.schema.validate(object, old, "", errors);
    validate_rules(kind, object, old, errors);
}

/// Validates an update of the status. Paths in the words of its errors begin in the status.
fn validate_status(kind: &Kind, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if let (Some(status), Some(schema)) = (object.get("status"), kind.schema.property("status")) {
        let mut of_status = Vec::new();
        schema.validate(status, old.get("status"), "", &mut of_status);
        errors.extend(of_status.into_iter().map(|error| error.within("status")));
    }
    validate_rules(kind, object, Some(old), errors);
}

/// Checks what the API server checks after the schema.
fn validate_rules(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    kind.schema.validate_lists(object, "", errors);
    if errors.iter().any(FieldError::blocks_rules) {
        let words = "some validation rules were not checked because the object was invalid; correct the existing \
                     errors to complete validation";
        errors.push(FieldError::invalid("<nil>", &Value::Null, words));
    } else {
        kind.schema.check_rules(object, old, "", errors);
    }
}

fn check_size(request: &Request, object: &Value) -> Result<(), Unclear> {
    // A patch may add to an object that is already large.
    let may_be_large = request.verb == Verb::Patch || request.body.len() > STORED_BYTES / 2;
    if may_be_large && object.to_string().len() > STORED_BYTES {
        return Err(Unclear::Unmodelled("an object that is too large for etcd".into()));
    }
    Ok(())
}

fn text(request: &Request, stored: &Stored) -> String {
    stored.text(request.form, Types::Of(&request.kind))
}
