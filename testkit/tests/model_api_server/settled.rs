//! The states that the controllers settle in: garbage collection and the deletion of namespaces.
