"""The tokenizer and the model, built as the Plan says."""
