//! Names that the operator writes on objects, or reads from them: finalizer, annotations, labels.

/// The finalizer on every ServiceKey that may have a key at its remote side. The operator stores it before it requests
/// the first key. It removes it only when every key is confirmed gone or stays at the remote side as the user wants.
pub const FINALIZER: &str = "servicekeys.dev/finalizer";

/// The finalizer on every provider. The operator removes it when no ServiceKey references the provider any more, so
/// that it can revoke every key of the provider.
pub const PROVIDER_FINALIZER: &str = "servicekeys.dev/in-use";

/// Prefix of the finalizers on login Secrets, followed by the UID of the provider that needs the Secret. The operator
/// removes them with the provider's own finalizer, or when the provider names another Secret.
pub const LOGIN_FINALIZER_PREFIX: &str = "servicekeys.dev/login-of.";

/// Annotation of a ServiceKey that is being deleted. With the value `true` the operator stops trying to revoke its
/// remote keys and removes the finalizer. Keys that exist stay at the remote side and are listed in an event.
pub const ABANDON_ANNOTATION: &str = "servicekeys.dev/abandon";

/// Annotation of a ServiceKey. When its value changes, the operator creates the next key at once. Removing it has no
/// effect.
pub const ROTATE_ANNOTATION: &str = "servicekeys.dev/rotate";

/// Annotation of a ServiceKey: the ids of offering and plan that an Open Service Broker gave to the first key, as JSON.
/// The operator writes it together with the finalizer, before it creates the key, and reads it until the status has the
/// ids.
pub const PLAN_IDS_ANNOTATION: &str = "servicekeys.dev/plan-ids";

/// Prefix of the annotations on pod templates by which the operator restarts workloads, followed by the name of the
/// ServiceKey. The value has the number of the key.
pub const RESTART_ANNOTATION_PREFIX: &str = "restart.servicekeys.dev/";

/// Label of a Secret: the UID of the ServiceKey that it belongs to. The operator writes and deletes only Secrets whose
/// label names the ServiceKey at hand.
pub const OWNER_UID_LABEL: &str = "servicekeys.dev/owner-uid";

/// Annotation of a Secret: the UID of the ServiceKey that its key was created for, if that is not its owner. Both were
/// then restored from a backup, and the owner continues with the keys of the former ServiceKey.
pub const FORMER_UID_ANNOTATION: &str = "servicekeys.dev/former-uid";

/// The name under which the operator's writes appear in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "servicekey-operator";

/// The well-known label for the tool that manages an object; the operator sets it on every Secret that it writes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on the operator's Secrets.
pub const MANAGED_BY: &str = "servicekey-operator";
