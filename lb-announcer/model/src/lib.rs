//! landfall-lb-model.
