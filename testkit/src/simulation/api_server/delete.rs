//! Deletes: preconditions, finalizers, and the answers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Answer, State,
    kinds::{Kind, Strategy},
    metadata, namespaces,
    request::{Request, Unclear},
    status::Refusal,
    store::{Stored, Types},
    write::review,
};

/// The options in the body of a delete.
struct DeleteOptions {
    uid: Option<String>,
    version: Option<String>,
    is_dry_run: bool,
}

impl DeleteOptions {
    fn parse(request: &Request) -> Result<Self, Unclear> {
        let body: Value = match &*request.body {
            [] => json!({}),
            body => serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))?,
        };
        for (field, value) in body.as_object().into_iter().flatten() {
            let known = ["apiVersion", "kind", "preconditions", "dryRun", "gracePeriodSeconds"];
            let is_background = field == "propagationPolicy" && (value == "Background" || value.is_null());
            if !known.contains(&field.as_str()) && !is_background {
                return Err(Unclear::Unmodelled(format!("a delete with `{field}: {value}`")));
            }
        }
        if !matches!(request.parameter("propagationPolicy"), "" | "Background") {
            return Err(Unclear::Unmodelled("a delete with a propagation policy".into()));
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let in_body = body["dryRun"].as_array().is_some_and(|dry_run| !dry_run.is_empty());
        Ok(Self {
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            is_dry_run: in_body || request.is_dry_run(),
        })
    }

    fn check(&self, kind: &Kind, name: &str, stored: &Stored) -> Result<(), Refusal> {
        let of_namespace = kind.strategy == Strategy::Namespace;
        let checks = [
            ("UID", &self.uid, stored.uid(), "deleted and then recreated"),
            ("ResourceVersion", &self.version, stored.version(), "modified"),
        ];
        for (what, wanted, found, otherwise) in checks {
            let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) else { continue };
            return Err(if of_namespace {
                let words = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                );
                Refusal::conflict(kind, name, &words)
            } else {
                let words = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The \
                     object might have been {otherwise}"
                );
                Refusal::conflict_of_kind(kind, name, &words)
            });
        }
        Ok(())
    }
}

impl State {
    pub(super) fn delete(&mut self, request: &Request) -> Result<Answer, Unclear> {
        let (kind, name, key) = (&request.kind, request.name(), request.key());
        let options = DeleteOptions::parse(request)?;
        if kind.strategy == Strategy::Namespace && namespaces::IMMORTAL.contains(&name) {
            return Err(Refusal::forbidden(kind, name, "this namespace may not be deleted").into());
        }
        let stored = self.store.get(kind, &key).cloned();
        let stored = stored.ok_or_else(|| Refusal::not_found(kind, name))?;
        options.check(kind, name, &stored)?;
        self.hooks.validate(&review(request, name, Some(&stored.value)), &Value::Null)?;
        if !awaits_finalizers(kind, &stored) {
            if !options.is_dry_run {
                self.remove(kind, &key);
            }
            return Ok(Answer::complete(200, deleted(kind, &stored).to_string()));
        }
        if stored.is_deleting() {
            return Ok(Answer::complete(200, stored.text(request.form, Types::Of(kind))));
        }
        let marked = self.marked(kind, &stored);
        if options.is_dry_run {
            let marked = Stored::new(marked, stored.written);
            return Ok(Answer::complete(200, marked.text(request.form, Types::Of(kind))));
        }
        let written = self.write(kind, &key, marked);
        Ok(Answer::complete(200, written.text(request.form, Types::Of(kind))))
    }

    /// Deletes an object as the controllers do.
    pub(super) fn delete_in_background(&mut self, kind: &Arc<Kind>, key: &str) {
        let Some(stored) = self.store.get(kind, key).cloned() else { return };
        if !awaits_finalizers(kind, &stored) {
            self.remove(kind, key);
        } else if !stored.is_deleting() {
            let marked = self.marked(kind, &stored);
            self.write(kind, key, marked);
        }
    }

    /// The object with the marks of a deletion.
    fn marked(&self, kind: &Kind, stored: &Stored) -> Value {
        let mut object = stored.value.clone();
        let meta = &mut object["metadata"];
        meta["deletionTimestamp"] = self.now().to_string().into();
        if kind.strategy == Strategy::Namespace {
            object["status"]["phase"] = "Terminating".into();
            return object;
        }
        meta["deletionGracePeriodSeconds"] = 0.into();
        if let Some(generation) = meta["generation"].as_i64() {
            meta["generation"] = (generation + 1).into();
        }
        object
    }
}

fn awaits_finalizers(kind: &Kind, stored: &Stored) -> bool {
    let in_spec = kind.strategy == Strategy::Namespace && stored.value["spec"].get("finalizers").is_some();
    in_spec || metadata::finalizers(stored.metadata()).next().is_some()
}

fn deleted(kind: &Kind, stored: &Stored) -> Value {
    let mut details = json!({"name": stored.metadata()["name"], "kind": kind.plural, "uid": stored.uid()});
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
