//! landfall-ingress-model.
