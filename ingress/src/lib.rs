//! landfall-ingress.
