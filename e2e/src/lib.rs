//! landfall-e2e.
