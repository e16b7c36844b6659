//! The types of the conditions in status, and their reasons.

use std::fmt;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Of a ServiceKey: the Secret contains credentials that work, even while other work is in progress or fails. Of a
    /// provider: the operator can reach the remote side with the login.
    Ready,
    /// The operator works towards the spec or waits for its next attempt, also when another key was requested while the
    /// current one works. A rotation by age does not count. Absent otherwise.
    Reconciling,
    /// A new key is replacing the current one. Absent or `False` otherwise.
    Rotating,
    /// The operator makes no progress until a person changes something: kstatus, and so Flux and Argo CD, stop waiting.
    /// Absent or `False` otherwise.
    Stalled,
}

impl ConditionType {
    /// The type as it is written in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Rotating => "Rotating",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Declares each reason once. The variant's name is written to status, and its documentation is the help text on the
/// troubleshooting page.
macro_rules! reasons {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// Why a condition has its status: one word for programs, explained for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $line])+ $name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason as it is written in status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The meaning of the reason and the user's next step, line by line.
            #[must_use]
            pub const fn help(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => &[$($line),+],)+
                }
            }
        }
    };
}

reasons! {
    /// The Secret contains credentials that work, or the provider can be reached with its login. Nothing to do.
    Available,
    /// The remote side accepted the request and is still working on it. The message says since when. Wait.
    Binding,
    /// The operator is creating the next key. The current key keeps working, unless `strategy: Replace` revokes it
    /// first. Wait.
    Rotating,
    /// The Secret contains the new key, and the previous key stays valid for consumers that have not switched yet. The
    /// message says when the operator revokes it. Nothing to do.
    Overlapping,
    /// Another key is due, but only the three newest keys may exist, and the overlap of an older one is not over. The
    /// message says when that overlap ends, and the operator creates the key then. The current key keeps working. Wait.
    /// If no workload uses the previous keys, set `spec.rotation.overlap` to `0s`: that ends their overlaps.
    WaitingForOverlap,
    /// The last rotation returned the same credentials as before: the remote side gives all keys the same ones. So the
    /// operator stops scheduled rotations. It keeps these keys until the ServiceKey is deleted, because revoking one
    /// could invalidate them all. Ask the administrator of the remote side for separate credentials for each key. An
    /// auditing instance of IBM Cloud has one `service_key` for all keys: replace it on the instance's web page. To try
    /// another rotation, set the annotation `servicekeys.dev/rotate`. If that key has other credentials, the schedule
    /// resumes.
    RotationIneffective,
    /// The operator could not restart workloads of `spec.rotation.restart` with the new key, so their pods may still use
    /// the previous one until it is revoked. The message names the workloads and the causes. The operator tries again,
    /// at least every ten minutes, until the next rotation. Create a workload that is missing, or remove it from the list.
    /// Resume a Deployment that is paused. If the operator lacks the permission, set the chart's value `restarts.enabled`.
    /// If a policy refuses the change, exclude the operator's account from webhooks that change workloads.
    RestartFailed,
    /// The overlap is over, and pods may still use the previous key (`spec.rotation.revokeWhen: ConsumersMoved`): they
    /// started before the rotation. The message names five of them, and says when the operator revokes the key at the
    /// latest. It looks at the pods again at least every ten minutes. Restart these pods, or name their workloads in
    /// `spec.rotation.restart`. If the operator lacks the permission, set the chart's value `consumers.enabled`.
    ConsumersNotMoved,
    /// The operator has created a key, and checks whether the service accepts its credentials
    /// (`spec.rotation.verify`). The message repeats the code of the service's last answer. The Secret keeps the current
    /// key. Wait.
    Verifying,
    /// The service did not accept a new key within `spec.rotation.verify.within`, so the operator revokes that key. The
    /// Secret keeps the current one. The message says when the operator creates another key. Correct the probe in
    /// `spec.rotation.verify`, or the service. To try again at once, set the annotation `servicekeys.dev/rotate`.
    VerificationFailed,
    /// The ServiceKey is being deleted, and the operator is revoking its keys. Wait: it stays until the remote side has
    /// confirmed that they are gone.
    Deleting,
    /// The provider is being deleted, but ServiceKeys still reference it, and their keys can't be revoked without it.
    /// The message names them. When the last of them is gone, the operator releases the provider and its login Secret.
    InUse,
    /// `spec.suspend` is true, so the operator does nothing for this object. Set it to `false` to resume.
    Suspended,

    /// The spec contradicts itself, or uses a feature that this kind of provider does not support. Change the fields
    /// that the message names.
    InvalidSpec,
    /// The ServiceKey and its Secret were restored from a backup with new UIDs, and the operator continues with the key
    /// in the Secret. Wait.
    Restoring,
    /// A Secret of this name exists and does not belong to this ServiceKey. The operator does not change it, and
    /// creates no key. Delete that Secret if it is not needed, or create the ServiceKey again with another
    /// `spec.secret.name`.
    SecretConflict,
    /// The API server refuses the Secret, because of an admission policy, a quota, or the rules for its type. Or an
    /// admission webhook or policy changes entries or marks of the Secret. The message gives the cause and names the
    /// fields. The operator finds this out by a dry run before it creates or revokes a key, and retries. Change the
    /// policy, or the labels, annotations and entries in `spec.secret`. Delete a Secret that is immutable or has
    /// another type. The API server attributes a change by an admission webhook or policy to the operator. Look for the
    /// author among the cluster's MutatingWebhookConfigurations and MutatingAdmissionPolicies.
    SecretRejected,
    /// Another writer changed the Secret right after the operator had repaired it, several times in a row. The operator
    /// waits longer before each further repair, at most five minutes. The message names the fields and the writer's
    /// field manager, if `metadata.managedFields` of the Secret has them. Each writer chooses that name itself. A
    /// writer that only removes fields is not recorded there: find it in the API server's audit log. Stop it from
    /// writing this Secret.
    SecretContested,
    /// The credentials can't be converted into the Secret's entries. Names collide, a template uses a credential that
    /// is missing, or the entries exceed the size of a Secret. Or the remote side's answer contains no readable
    /// credentials. The operator revoked the key, unless its credentials were in the Secret before. It creates no
    /// other key. If the remote side is the cause, it tries another key after six hours. Change `spec.secret.template`
    /// as the message says. To try again unchanged, set the annotation `servicekeys.dev/rotate` to another value.
    CredentialsUnusable,
    /// A Secret or an entry that `spec.parametersFrom` names is missing, or does not contain a JSON object. Create or
    /// correct it; the operator then resumes automatically. An event of this reason alone says that the operator can't
    /// compare the content (`onChange: Rotate`). The current key stays then.
    ParametersUnusable,

    /// No provider of this kind and name exists. Create it, or create the ServiceKey again with another
    /// `spec.providerRef`. A ServiceKey that is being deleted waits for its provider. To delete the ServiceKey and
    /// leave its keys at the remote side, set the annotation `servicekeys.dev/abandon: "true"`, unless a rule of the
    /// provider denies it.
    ProviderNotFound,
    /// The ClusterKeyProvider does not allow this namespace. Ask its owner to add the namespace to
    /// `spec.allowedNamespaces`.
    ProviderNotAllowed,
    /// A rule of the ClusterKeyProvider forbids this: the instance, its space, the role, the service ID, adopting keys,
    /// or leaving them at the remote side. The message names the rule and its field in `spec.rules`. Existing keys keep
    /// working, and the operator creates no further one. Ask the provider's administrator to change the rule, or create
    /// the ServiceKey again within it.
    NotPermitted,
    /// The namespace has as many ServiceKeys of the ClusterKeyProvider as the field `maxKeys` of a rule permits, and
    /// others came first. Delete one of them, or ask the provider's administrator for a higher limit. The operator then
    /// creates a key for this one automatically.
    LimitExceeded,
    /// The provider exists but can't be used. Its own `Ready` condition gives the cause, often a login Secret that is
    /// missing or incomplete. The operator resumes automatically when the provider is ready.
    ProviderNotReady,

    /// The service instance does not exist, or the login may not see it. Check `spec.instance`, and the organization
    /// and space of the provider. To correct `spec.instance`, create the ServiceKey again.
    InstanceNotFound,
    /// The remote side understood the request and refused it; the message quotes its answer. Correct the cause, often
    /// `spec.parameters`.
    BindRejected,
    /// The remote side failed to create the key; the message quotes its answer. The operator retries at growing
    /// intervals. Every attempt uses the same identity, so an earlier attempt leaves no second key.
    BindFailed,
    /// A key of this identity exists at the remote side, and was created with other parameters or by another owner.
    /// Delete it there, adopt it with `spec.adoption: IfExists`, or create the ServiceKey again with another
    /// `spec.keyName`.
    KeyConflict,
    /// The remote side no longer has the key, and the operator did not revoke it. The operator creates the next key by
    /// a regular rotation and replaces the credentials in the Secret. If this happens again, find out who deletes keys
    /// there.
    KeyLost,
    /// The key in the Secret has expired: the time in its `status.key.expiresAt` has passed, and the operator could not
    /// create the next key in time. `status.key.expiresFrom` names the certificate or token in the credentials whose
    /// end this is. Without it, the remote side said the time. The message or the condition `Rotating` gives the cause.
    /// The operator retries. A time that is not after the key's creation, such as `0001-01-01T00:00:00Z`, does not count
    /// as an expiry.
    KeyExpired,
    /// The remote side no longer shows the key in the Secret, nor its instance. Either both were deleted, or the login
    /// may no longer see them. The message names the request. Give the login its role back, or create the ServiceKey
    /// again for an instance that exists. The operator keeps checking.
    Unconfirmed,
    /// The key could not be revoked; the message gives the cause. The operator retries until the remote side confirms
    /// that the key is gone. To leave the key at the remote side instead, annotate the ServiceKey with
    /// `servicekeys.dev/abandon: "true"`, unless a rule of the provider denies it.
    RevokeFailed,
    /// The ServiceKey is deleted and its key has to stay at the remote side. The operator could not remove its mark
    /// from the key; the message gives the cause. With its mark, the key would be reported as an orphan, or revoked.
    /// The operator retries. To leave the key with its mark, annotate the ServiceKey with
    /// `servicekeys.dev/abandon: "true"`, unless a rule of the provider denies it.
    ReleaseFailed,

    /// The remote side refused the login, or the login lacks a permission. Correct the provider's login Secret, or the
    /// permissions of its user. After a token server refused the login, the operator retries at once when an entry of
    /// the Secret changes. Otherwise it retries at the time in `status.refusedLogin` of the provider, also after a
    /// restart. That is at most three times an hour, because servers lock accounts after a few wrong passwords.
    Unauthorized,
    /// The key exists, but the remote side never returned its credentials to this login, not even in the answer to its
    /// creation. The key stays. Give the login the role that the message names; the operator retries. If the
    /// credentials were returned at the creation and are redacted later, a regular rotation replaces the key instead.
    CredentialsRedacted,
    /// The remote side can't be reached, does not answer in time, or can't serve any client for now; the message says
    /// which. The operator retries. A KeyProvider with a private address, or with a name that can't be resolved, shows
    /// no cause before the first valid answer. The operator's log contains it.
    RemoteUnreachable,
    /// The remote side limits the rate of requests (429), or asked for a pause (503 with `Retry-After`). All keys of
    /// the provider wait as long as it requires, and then resume automatically. If this lasts, lower the provider's
    /// `spec.limits`.
    RateLimited,
    /// The remote side's certificate is not trusted or no longer valid, or the client certificate is unusable; the
    /// message says which. Add the authority's certificate to the provider's `spec.tls.caBundle`, renew the remote
    /// side's certificate, or correct the Secret of `spec.tls.clientCertificate`.
    TlsFailed,
    /// The remote side's answer does not follow its protocol. Check that the provider's URL is that of the API itself.
    /// The operator retries.
    UnexpectedAnswer,
    /// A Secret that the provider names does not exist. Create it in the provider's namespace, or for a
    /// ClusterKeyProvider in the operator's namespace. The operator then resumes automatically.
    LoginSecretMissing,
    /// A Secret that the provider names was deleted, and the operator keeps it, because it may need its login to revoke
    /// keys. Meanwhile the operator uses this login. It releases the Secret a minute after its deletion, unless its
    /// namespace, the provider or a ServiceKey that names the provider is being deleted. Create the Secret again when
    /// it is gone; a tool that applies manifests does so automatically. To change a login without a gap, change the
    /// entries of the Secret, or let the provider name another Secret.
    LoginSecretDeleted,
    /// A Secret that the provider names lacks an entry, or has an empty one. The message names the entry. Correct it;
    /// the operator then resumes automatically.
    LoginSecretIncomplete,
}

impl Reason {
    /// Whether `Rotating` with this reason means that the rotation proceeds normally.
    #[must_use]
    pub const fn is_progress_of_a_rotation(self) -> bool {
        matches!(
            self,
            Self::Rotating | Self::Overlapping | Self::WaitingForOverlap | Self::Binding | Self::Verifying
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_are_what_the_api_server_accepts_and_explain_themselves() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{reason}");
            assert!(reason.help().concat().len() > 40, "{reason} needs an explanation");
        }
    }
}
