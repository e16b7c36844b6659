//! The conditions that status shows, and the reasons that they give.

use std::fmt;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Of a ServiceKey: the Secret holds credentials that work, whatever else is going on. Of a provider: the remote
    /// side can be reached with the login.
    Ready,
    /// The operator is working towards what the user asks for, or waits to try again; also towards another key while the
    /// current one works. A rotation by age is no such work. Absent otherwise.
    Reconciling,
    /// A new key is replacing the current one. Absent or `False` otherwise.
    Rotating,
    /// Nothing more will happen until a person changes something: kstatus, and so Flux and Argo CD, stop waiting.
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

/// Declares the reasons once: the variant is its own name in status, and its documentation is the help that the
/// troubleshooting page prints.
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

            /// What the reason means and what to do about it, in lines.
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
    /// All is well: the Secret holds credentials that work, or the provider can be reached with its login. Nothing
    /// to do.
    Available,
    /// The remote side accepted the request and is still working on it. Wait; the message says since when.
    Binding,
    /// A new key is being made to replace the current one, which keeps working. Wait.
    Rotating,
    /// The Secret holds the new key, and the previous one is still valid for consumers that have not moved yet. The
    /// message says when it will be revoked. Nothing to do.
    Overlapping,
    /// The last rotation brought the credentials that the key before has: the remote side gives all keys the same ones. So
    /// the operator does not rotate by itself any more, and the keys with these credentials stay until the ServiceKey is
    /// deleted, because a revocation could end them all. Ask the operator of the remote side for credentials of each key.
    /// An auditing instance of IBM Cloud has one `service_key` for all keys: replace it in the instance's web page.
    /// The annotation `servicekeys.dev/rotate` tries another rotation, which resumes the schedule if it brings others.
    RotationIneffective,
    /// The ServiceKey is being deleted and its keys are being revoked. Wait: it stays until the remote side has confirmed
    /// that they are gone.
    Deleting,
    /// The provider is being deleted, and ServiceKeys still name it: their keys could not be revoked without it. The
    /// message names them. It goes, with its hold on the login Secret, when the last of them is gone.
    InUse,
    /// `spec.suspend` is true, so nothing is done for this object. Set it to `false` to go on.
    Suspended,

    /// The spec contradicts itself, or asks for something that this kind of provider does not have. Change what the
    /// message names.
    InvalidSpec,
    /// The ServiceKey and its Secret were restored from a backup with new UIDs, and the operator goes on with the key that
    /// the Secret holds. Wait.
    Restoring,
    /// A Secret of this name exists and belongs to somebody else, so it is not touched, and no key is made. Delete
    /// that Secret if it is not needed, or create the ServiceKey again with another `spec.secret.name`.
    SecretConflict,
    /// The API server refuses the Secret: an admission policy, a quota, or rules for its type; or it stores other entries or
    /// marks than the operator sends. The message says why, and names the fields. The operator finds this out by a dry run
    /// before it creates or revokes a key. Change the policy, or the labels, annotations and entries in `spec.secret`;
    /// delete a Secret that is immutable or has another type. The operator tries again. An admission webhook or policy that
    /// changes a field leaves no name behind: the API server records its change as one of the operator. Look for it among the
    /// cluster's MutatingWebhookConfigurations and MutatingAdmissionPolicies.
    SecretRejected,
    /// Another writer changed the Secret right after the operator had repaired it, several times in a row. The operator waits
    /// longer before each further repair, five minutes at most. The message names the fields and the writer's field manager,
    /// where `metadata.managedFields` of the Secret does. Each writer chooses that name itself. A writer that only removes
    /// fields is not recorded there: find it in the API server's audit log. Stop it from writing this Secret.
    SecretContested,
    /// The credentials can't be turned into the Secret's entries: names that collide, a template that uses a credential
    /// that is not there, or more than fits in a Secret. Or the remote side's answer holds no credentials that can be
    /// read. The key was revoked, unless its credentials were in the Secret before, and no other one is created; where
    /// the remote side is the cause, another one is tried after six hours. Change `spec.secret.template` as the message
    /// says; to try again unchanged, set the annotation `servicekeys.dev/rotate` to another value.
    CredentialsUnusable,
    /// A Secret or an entry that `spec.parametersFrom` names is missing, or holds no JSON object. Create or correct
    /// it; the operator goes on by itself.
    ParametersUnusable,

    /// There is no provider of this kind and name. Create it, or create the ServiceKey again with another
    /// `spec.providerRef`. A ServiceKey that is being deleted waits for it, or is let go with the annotation
    /// `servicekeys.dev/abandon: "true"`, which leaves its keys at the remote side.
    ProviderNotFound,
    /// The ClusterKeyProvider doesn't allow this namespace. Ask its owner to add the namespace to
    /// `spec.allowedNamespaces`.
    ProviderNotAllowed,
    /// A rule of the ClusterKeyProvider forbids this: the instance, its space, the role, the service ID, taking over
    /// keys, or leaving them behind. The message names the rule and its field in `spec.rules`. Existing keys go on
    /// working, and no further one is created. Ask the provider's administrator to change the rule, or create the
    /// ServiceKey again within it.
    NotPermitted,
    /// The namespace has as many ServiceKeys of the ClusterKeyProvider as a rule of it permits (`maxKeys`), and others
    /// were there first. Delete one of them, and this one follows by itself; or ask the provider's administrator for a
    /// higher limit.
    LimitExceeded,
    /// The provider is there but can't be used: its own `Ready` condition says why, often that its login Secret is
    /// missing or incomplete. The operator goes on by itself when it is ready.
    ProviderNotReady,

    /// The service instance does not exist, or the login may not see it. Check `spec.instance`, and the organization
    /// and space of the provider.
    InstanceNotFound,
    /// The remote side understood the request and refused it; the message holds its words. Change what they name,
    /// often `spec.parameters`.
    BindRejected,
    /// Making the key failed at the remote side; the message holds its words. It is tried again, less and less often,
    /// and always for the same key, so that an attempt that took effect all the same leaves nothing behind.
    BindFailed,
    /// A key of this identity exists at the remote side, made with other parameters or by somebody else. Remove it
    /// there, choose another `spec.keyName`, or take it over with `spec.adoption: IfExists`.
    KeyConflict,
    /// The key is gone at the remote side, and it was not the operator that revoked it. The next one is made in order,
    /// and takes its place in the Secret. Find out who deletes keys there if this happens again.
    KeyLost,
    /// The key whose credentials are in the Secret has expired: its `status.key.expiresAt` is over, and the next key could
    /// not be created in time. The condition `Rotating`, or the message, says why. The operator goes on trying. A time that
    /// is not after the key's creation, such as `0001-01-01T00:00:00Z`, does not count as an expiry.
    KeyExpired,
    /// The Secret holds the credentials of a key that the remote side does not show any more, nor its instance: either
    /// both were deleted, or the login may not see them any more. The message says what was asked. Give the login its
    /// role back, or create the ServiceKey again for an instance that exists. It is asked again by itself.
    Unconfirmed,
    /// The key could not be revoked; the message says why. It is tried again until the remote side confirms that the
    /// key is gone. To let go of it, annotate the ServiceKey with `servicekeys.dev/abandon: "true"`: the key then
    /// stays at the remote side.
    RevokeFailed,
    /// The ServiceKey is deleted and its key is to stay at the remote side, where it still bears the operator's mark:
    /// left so it would be reported as an orphan, or revoked. The message says what keeps the mark from being taken off.
    /// It is tried again. To leave the key with its mark, annotate the ServiceKey with
    /// `servicekeys.dev/abandon: "true"`.
    ReleaseFailed,

    /// The remote side refused the login, or the login may not do this. Correct the provider's login Secret, or the
    /// rights of its user. A login that a token server refused is tried again at once when an entry of the Secret changes, or
    /// else at the time in `status.refusedLogin` of the provider, also after a restart. That is at most three times an hour,
    /// because servers lock accounts after a few wrong passwords.
    Unauthorized,
    /// The key is there, and the remote side has not shown its credentials to this login, not even in the answer to its
    /// creation. The key stays. Give the login the role that the message names; the operator tries again by itself. A key
    /// whose credentials were shown at its creation, and are redacted later, is replaced in order instead.
    CredentialsRedacted,
    /// The remote side can't be reached, doesn't answer in time, or can't serve anybody for now; the message says
    /// which. It is tried again by itself. A KeyProvider on a private address, or with a name that can't be resolved,
    /// shows no cause before the first valid answer: the operator's log has it.
    RemoteUnreachable,
    /// The remote side answers that too much is asked of it. All keys of the provider wait as long as it says, and go
    /// on by themselves. Lower the provider's `spec.limits` if this lasts.
    RateLimited,
    /// The remote side's certificate is not trusted or no longer valid, or the client certificate is unusable; the
    /// message says which. Put the authority's certificate into the provider's `spec.tls.caBundle`, renew the remote
    /// side's, or correct the Secret of `spec.tls.clientCertificate`.
    TlsFailed,
    /// The remote side answers, but not as its protocol demands. Check that the provider's URL is the API's own. It is
    /// tried again by itself.
    UnexpectedAnswer,
    /// A Secret that the provider names does not exist. Create it in the provider's namespace, for a
    /// ClusterKeyProvider in the operator's; the operator goes on by itself.
    LoginSecretMissing,
    /// A Secret that the provider names was deleted, and the operator holds it, because keys may have to be revoked with it.
    /// Its login is used meanwhile. The operator releases the Secret a minute after its deletion, unless its namespace, the
    /// provider or a ServiceKey that names the provider is being deleted. Create the Secret again when it is gone; a tool
    /// that applies manifests does so by itself. To change a login without a gap, change the entries of the Secret, or let
    /// the provider name another Secret.
    LoginSecretDeleted,
    /// A Secret that the provider names lacks an entry, or holds an empty one. The message names the entry. Correct it;
    /// the operator goes on by itself.
    LoginSecretIncomplete,
}

impl Reason {
    /// Whether `Rotating` with this reason says that the rotation goes on as it should.
    #[must_use]
    pub const fn is_progress_of_a_rotation(self) -> bool {
        matches!(self, Self::Rotating | Self::Overlapping | Self::Binding)
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
