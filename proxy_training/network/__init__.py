"""The model: its parts, its shape and parametrisation, how it is optimised, compiled and exported."""
