"""axo: fine-tuning of large language models from one YAML recipe."""

__version__ = "0.1.0"

# Imported before anything that is loud when it is imported: see axo/log.py.
from axo import log as log
