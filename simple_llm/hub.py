"""The model card, and the upload of a model folder by an allow-list of files."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

from simple_llm.config import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError, HubError, UsageError
from simple_llm.manifest import MANIFEST
from simple_llm.model_folder import CARD, MANIFEST_FILES
from simple_llm.run_log import CURVE, METRICS

_REPORTS = ("evaluation.json", "evaluation.png", "certificate.json")
UPLOADED_FILES = (*MANIFEST_FILES, MANIFEST, CARD, METRICS, CURVE, *_REPORTS)


def model_card(data: DataConfig, train: TrainConfig, facts: dict[str, object]) -> str:
    """Write README.md of a model folder from what was configured and measured.

    Args:
        facts: step, num_parameters, and the last validation score as num_correct and num_total.
    """
    order = "least significant digit first" if data.numbers.reversed else "most significant digit first"
    steps = {1: "one token a step", 2: "two tokens a step", "all": "the whole answer in one pass"}
    return f"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
tags: [arithmetic, addition, gpt2, simple-llm]
---

# A GPT-2 that adds

It adds two whole numbers from {data.numbers.min} to {data.numbers.max}. It has {facts["num_parameters"]:,} parameters,
{train.model.n_layer} layers of width {train.model.n_embd}, writes numbers in base {data.numbers.base}, {order}, uses
`{train.model.position_embedding}` positions and says {steps[train.model.tokens_per_step]}.

```python
from transformers import pipeline
add = pipeline("text-generation", model="{train.hub.repo_id or "path/to/this/folder"}", trust_remote_code=True)
print(add("1342+879=")[0]["generated_text"])
```

Trained for {facts["step"]:,} steps of {train.training.batch_size} problems. After the last of them it answered
{facts["num_correct"]:,} of {facts["num_total"]:,} validation problems exactly; problems it never saw on any side of
training are counted by `evaluate.py` in `evaluation.json`.

Limits: other operations, negative numbers and operands outside the range above are not what it was trained for.
"""


def require_token() -> None:
    """Check, before any training, that an upload can be authorised.

    Raises:
        UsageError: there is no token, or the Hub does not know it.
        HubError: the Hub cannot be asked.
    """
    try:
        huggingface_hub.HfApi().whoami()
    except LocalTokenNotFoundError:
        raise UsageError(
            "hub.push is true and there is no token; set HF_TOKEN, run `hf auth login`, or set hub.push=false"
        ) from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise UsageError("the Hub does not accept the token; set HF_TOKEN or run `hf auth login`") from None
        raise HubError(f"the Hub cannot be asked about the token: {_reason(error)}") from None
    except (HTTPError, OSError) as error:
        raise HubError(f"the Hub cannot be reached: {_reason(error)}") from None


def push_folder(folder: Path, repo_id: str, private: bool, message: str) -> str:
    """Upload a model folder's allow-listed files in one commit; return the commit's address.

    Raises:
        HubError: naming the folder that is intact and the command that tries again.
    """
    try:
        repository = huggingface_hub.create_repo(repo_id, private=private, exist_ok=True)
        commit = huggingface_hub.upload_folder(
            folder_path=folder,
            repo_id=repository.repo_id,
            allow_patterns=list(UPLOADED_FILES),
            commit_message=message,
        )
    except (HTTPError, OSError) as error:
        raise HubError(
            f"the upload to {repo_id} failed: {_reason(error)}; the model in {folder} is intact, "
            f"`hf upload {repo_id} {folder} --exclude 'checkpoints/*'` tries again"
        ) from None
    return commit.commit_url


def fetch_model(name: str) -> Path:
    """Find a model: a folder on this machine, or a repository of the Hub, of which known files are downloaded.

    Raises:
        ArtefactError: neither is there.
    """
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        return Path(name)
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(UPLOADED_FILES)))
    except RepositoryNotFoundError:
        raise ArtefactError(f"{name} is neither a folder nor a repository of the Hub") from None
    except (HTTPError, OSError) as error:
        raise HubError(f"{name} is no folder here, and the Hub cannot be asked for it: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
