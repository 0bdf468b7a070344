//! The tokenizer's tests, one binary.

mod corpus;
mod generator;
mod properties;
mod tokenizer_json;
