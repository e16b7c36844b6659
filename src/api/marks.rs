//! Names that the operator puts on objects, or reads from them: finalizer, annotations, labels.

/// The finalizer on every ServiceKey that may have a key at its remote side. It is stored before the first key
/// is asked for, and leaves only when every key is confirmed gone, or the user said to let go of it.
pub const FINALIZER: &str = "servicekeys.dev/finalizer";

/// The finalizer on every provider: it leaves when no ServiceKey names the provider any more, so that what was made
/// through it can be revoked.
pub const PROVIDER_FINALIZER: &str = "servicekeys.dev/in-use";

/// What the finalizers on login Secrets begin with; the UID of the provider that needs the Secret follows. They leave
/// with the provider's own, or when it names another Secret.
pub const LOGIN_FINALIZER_PREFIX: &str = "servicekeys.dev/login-of.";

/// Annotation of a ServiceKey that is being deleted. With the value `true` the operator stops trying to revoke its
/// remote keys and lets the object go; keys that exist stay at the remote side and are listed in an event.
pub const ABANDON_ANNOTATION: &str = "servicekeys.dev/abandon";

/// Annotation of a ServiceKey: another value than before makes the next key at once. Taking it away does nothing.
pub const ROTATE_ANNOTATION: &str = "servicekeys.dev/rotate";

/// Annotation of a ServiceKey: the ids of offering and plan that an Open Service Broker gave to the first key, as JSON. The
/// operator writes it together with the finalizer, before the key is created, and reads it until the status has the ids.
pub const PLAN_IDS_ANNOTATION: &str = "servicekeys.dev/plan-ids";

/// Label of a Secret: the UID of the ServiceKey that it belongs to. The operator writes and deletes only Secrets
/// whose label names the ServiceKey at hand.
pub const OWNER_UID_LABEL: &str = "servicekeys.dev/owner-uid";

/// Annotation of a Secret: the UID of the ServiceKey that its key was created for, where that is another one than its owner:
/// both were restored from a backup, and the owner goes on with the keys of the former ServiceKey.
pub const FORMER_UID_ANNOTATION: &str = "servicekeys.dev/former-uid";

/// The name under which the operator's writes appear in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "servicekey-operator";

/// The well-known label for the tool that manages an object; the operator sets it on every Secret that it writes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on the operator's Secrets.
pub const MANAGED_BY: &str = "servicekey-operator";
