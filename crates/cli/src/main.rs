//! The command `sostenuto`.

fn main() {}
