"""Names of the files in a model folder, each spelled out here and nowhere else."""

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
CONFIG, GENERATION_CONFIG, MODEL_CODE = "config.json", "generation_config.json", "modeling_simple_llm.py"
TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_CODE = "tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py"
PIPELINE_CODE, VERIFY = "pipeline_simple_llm.py", "verify.py"  # beside those that have a use for them
DATA_CONFIG, TRAIN_CONFIG = "data_config.yaml", "train_config.yaml"
MODEL_FILES = (WEIGHTS, CONFIG, GENERATION_CONFIG, MODEL_CODE)
TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_CODE)
CONFIG_FILES = (DATA_CONFIG, TRAIN_CONFIG)
MANIFEST_FILES = MODEL_FILES + TOKENIZER_FILES + CONFIG_FILES
EXTRA_CODE = (PIPELINE_CODE, VERIFY)

CHECKPOINTS = "checkpoints"  # a folder; in each of its folders are WEIGHTS, these two and a MANIFEST
OPTIMIZER, STATE = "optimizer.safetensors", "state.json"
METRICS = "metrics.jsonl"
CURVE = "training_curve.png"
LOG = "run.log"
REPAIRS = "repairs.jsonl"
WRITTEN_HERE = ".written-here"  # which of these files are ours, see ours.py

EVALUATION = "evaluation.json"
ACCURACY = "evaluation.png"
CERTIFICATE = "certificate.json"
LENGTHS = "lengths.json"
ATTENTION = "attention.json"
ATTENTION_PICTURES = "attention_*.png"
REPORTS = (EVALUATION, ACCURACY, CERTIFICATE, LENGTHS, ATTENTION, ATTENTION_PICTURES)  # names, and a pattern of names
FOLDER_FILES = (*MANIFEST_FILES, *EXTRA_CODE, MANIFEST, CARD, METRICS, CURVE, LOG, REPAIRS, *REPORTS)  # the same
ATTENTION_OVERVIEW, ATTENTION_BY_PLACE = "attention_overview.png", "attention_by_place.png"
