//! landfall-lb-announcer.
