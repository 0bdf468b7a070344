//! Conversations to tokens and tokens to messages
