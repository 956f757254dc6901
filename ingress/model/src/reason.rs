//! The reason codes of this model: what Events, log lines and metric labels say.

use landfall_model::Reason;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: Reason = Reason::new($code);)*

        /// Every reason code of this model, so that the set of metric labels is known beforehand.
        pub const ALL: &[Reason] = &[$($name),*];
    };
}

reasons! {
    /// An Ingress names a class that does not exist.
    UNKNOWN_INGRESS_CLASS = "UnknownIngressClass";
    /// An Ingress names no class, and no class is the default.
    NO_INGRESS_CLASS = "NoIngressClass";
    /// Annotation and `spec.ingressClassName` name different classes.
    CLASS_MISMATCH = "ClassMismatch";
    /// More than one `IngressClass` is marked as the default.
    SEVERAL_DEFAULT_CLASSES = "SeveralDefaultClasses";
    /// `spec.parameters` of an `IngressClass` has no effect.
    UNUSED_PARAMETERS = "UnusedParameters";
    /// An Ingress has neither rules nor a default backend.
    EMPTY_INGRESS = "EmptyIngress";
    /// A rule has no paths, and its Ingress no default backend.
    EMPTY_RULE = "EmptyRule";
    /// A host is not a DNS name or a wildcard.
    INVALID_HOST = "InvalidHost";
    /// A path does not start with a slash or has no canonical form.
    INVALID_PATH = "InvalidPath";
    /// A path has no `pathType`.
    MISSING_PATH_TYPE = "MissingPathType";
    /// A `pathType` that Kubernetes does not have.
    INVALID_PATH_TYPE = "InvalidPathType";
    /// One Ingress has the same host and path twice.
    DUPLICATE_PATH = "DuplicatePath";
    /// Another, older Ingress has the same host and path.
    PATH_CONFLICT = "PathConflict";
    /// Another, older Ingress has a default backend for the same requests.
    DEFAULT_BACKEND_CONFLICT = "DefaultBackendConflict";
    /// A backend names a resource, or neither resource nor Service.
    RESOURCE_BACKEND = "ResourceBackend";
    /// A backend is incomplete or contradicts itself.
    INVALID_BACKEND = "InvalidBackend";
    /// A Service that does not exist.
    UNKNOWN_SERVICE = "UnknownService";
    /// A port that the Service does not have.
    UNKNOWN_PORT = "UnknownPort";
    /// A port whose protocol is not TCP.
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol";
    /// A Service without an endpoint that could take a request.
    NO_ENDPOINTS = "NoEndpoints";
    /// An `appProtocol` that is not known.
    UNKNOWN_APP_PROTOCOL = "UnknownAppProtocol";
    /// `externalName` is not a DNS name, or one that must not be used.
    INVALID_EXTERNAL_NAME = "InvalidExternalName";
    /// `externalName` is in another namespace of the cluster, or Services of this type are switched off.
    EXTERNAL_NAME_REFUSED = "ExternalNameRefused";
    /// The session affinity of a Service is not one that Kubernetes has.
    INVALID_AFFINITY = "InvalidAffinity";
    /// Addresses of a kind that is not supported.
    UNSUPPORTED_ADDRESS_TYPE = "UnsupportedAddressType";
    /// An endpoint address that is none or must not be used.
    INVALID_ADDRESS = "InvalidAddress";
    /// An annotation about a Service for which an older Ingress decides.
    SHARED_SERVICE = "SharedService";
    /// A Secret that does not exist or is not of type `kubernetes.io/tls`.
    UNKNOWN_SECRET = "UnknownSecret";
    /// A Secret of another type than `kubernetes.io/tls`.
    INVALID_SECRET_TYPE = "InvalidSecretType";
    /// A Secret without `tls.crt` or `tls.key`.
    INCOMPLETE_SECRET = "IncompleteSecret";
    /// `tls.crt` can't be read.
    INVALID_CERTIFICATE = "InvalidCertificate";
    /// `tls.key` can't be read.
    INVALID_KEY = "InvalidKey";
    /// `tls.key` does not belong to `tls.crt`.
    KEY_MISMATCH = "KeyMismatch";
    /// The certificate's validity has not begun.
    CERTIFICATE_NOT_YET_VALID = "CertificateNotYetValid";
    /// The certificate's validity is over.
    CERTIFICATE_EXPIRED = "CertificateExpired";
    /// The certificate's names do not cover the host.
    CERTIFICATE_NAME_MISMATCH = "CertificateNameMismatch";
    /// Another, older Ingress has another Secret for the same host.
    TLS_CONFLICT = "TlsConflict";
    /// Ingresses of several namespaces take requests of one host.
    SHARED_HOST = "SharedHost";
    /// A host belongs to another namespace.
    HOST_NOT_OWNED = "HostNotOwned";
    /// An annotation that is not implemented.
    UNSUPPORTED_ANNOTATION = "UnsupportedAnnotation";
    /// An annotation whose value can't be used.
    INVALID_ANNOTATION = "InvalidAnnotation";
    /// An Ingress with a default backend, where those are left out.
    CATCH_ALL_DISABLED = "CatchAllDisabled";
    /// A canary for a host and path that no Ingress has.
    CANARY_WITHOUT_MAIN = "CanaryWithoutMain";
    /// A key of ingress-nginx's `ConfigMap` that is unknown or whose value can't be used.
    INVALID_CONFIG_MAP = "InvalidConfigMap";
    /// A `ConfigMap` that the command line names and that does not exist.
    UNKNOWN_CONFIG_MAP = "UnknownConfigMap";
    /// A port that is to lead to a Service, and that the ingress itself listens on.
    PORT_CONFLICT = "PortConflict";
    /// A port that can't be listened on.
    PORT_UNAVAILABLE = "PortUnavailable";
    /// An Ingress asks for a certificate, but automatic certificates are off.
    ACME_OFF = "AcmeOff";
    /// An Ingress asks for a certificate of an issuer that does not exist.
    ACME_UNKNOWN_ISSUER = "AcmeUnknownIssuer";
    /// An issuer that can't be read.
    ACME_INVALID_ISSUER = "AcmeInvalidIssuer";
    /// An Ingress asks for a certificate in a Secret that somebody else wrote.
    ACME_FOREIGN_SECRET = "AcmeForeignSecret";
    /// A host that no challenge of the issuer can prove, or that it does not sign for.
    ACME_UNPROVABLE_HOST = "AcmeUnprovableHost";
    /// An Ingress asks for a certificate, but a TLS entry of it names no host or no Secret.
    ACME_INCOMPLETE = "AcmeIncomplete";
    /// The CA can't be reached, or fails.
    ACME_UNREACHABLE = "AcmeUnreachable";
    /// The CA refuses the account.
    ACME_ACCOUNT_REFUSED = "AcmeAccountRefused";
    /// A limit of the CA's is reached.
    ACME_RATE_LIMITED = "AcmeRateLimited";
    /// The CA could not reach the challenge of a host, as a check of our own says.
    ACME_CHALLENGE_UNREACHABLE = "AcmeChallengeUnreachable";
    /// A TXT record for a host can't be set, or its name servers do not show it.
    ACME_DNS_FAILED = "AcmeDnsFailed";
    /// The CA has not found the challenge of a host.
    ACME_VALIDATION_FAILED = "AcmeValidationFailed";
    /// A CAA record forbids the CA to issue for a host.
    ACME_FORBIDDEN_BY_CAA = "AcmeForbiddenByCaa";
    /// The CA refuses an order.
    ACME_REFUSED = "AcmeRefused";
    /// A certificate could not be stored.
    ACME_NOT_STORED = "AcmeNotStored";
    /// The root or the intermediate of a CA of our own can't be used.
    ACME_AUTHORITY_UNUSABLE = "AcmeAuthorityUnusable";
    /// The CA offers no chain that ends at the authority that the issuer prefers.
    ACME_CHAIN_NOT_OFFERED = "AcmeChainNotOffered";
    /// The key of an account could not be changed at its CA.
    ACME_ACCOUNT_KEY_KEPT = "AcmeAccountKeyKept";
    /// Not a Problem: the CA did not know an account any more, and another one was opened.
    ACME_ACCOUNT_REPLACED = "AcmeAccountReplaced";
    /// Not a Problem: the CA has revoked a certificate, or is about to; another one is ordered.
    CERTIFICATE_RECALLED = "CertificateRecalled";
    /// Not a Problem: a certificate was ordered.
    CERTIFICATE_ORDERED = "CertificateOrdered";
    /// Not a Problem: a certificate was issued.
    CERTIFICATE_ISSUED = "CertificateIssued";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_words() {
        let mut codes: Vec<&str> = ALL.iter().map(|reason| reason.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_alphabetic())));
    }
}
