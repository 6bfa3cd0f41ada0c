"""Names of the files in a model folder."""

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
CONFIG = "config.json"
MODEL_FILES = (WEIGHTS, "config.json", "generation_config.json", "modeling_simple_llm.py")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py")
CONFIG_FILES = ("data_config.yaml", "train_config.yaml")
MANIFEST_FILES = MODEL_FILES + TOKENIZER_FILES + CONFIG_FILES

METRICS = "metrics.jsonl"
CURVE = "training_curve.png"
LOG = "run.log"

EVALUATION = "evaluation.json"
ACCURACY = "evaluation.png"
CERTIFICATE = "certificate.json"
LENGTHS = "lengths.json"
ATTENTION = "attention.json"
ATTENTION_PICTURES = "attention_*.png"
REPORTS = (EVALUATION, ACCURACY, CERTIFICATE, LENGTHS, ATTENTION, ATTENTION_PICTURES)  # names, and a pattern of names
ATTENTION_OVERVIEW, ATTENTION_BY_PLACE = "attention_overview.png", "attention_by_place.png"
