//! Entry point of the `tracker` command.
fn main() {}
