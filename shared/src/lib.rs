//! landfall-shared.
