"""From text to tokens: tokenizers, reading and spooling documents, tokens that others made."""
