//! Build and test tasks of the project.

fn main() {}
