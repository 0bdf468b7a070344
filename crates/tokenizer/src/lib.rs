//! Text to token ids and back: o200k_harmony built in, tokenizer.json from a model folder
