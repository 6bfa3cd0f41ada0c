"""The Hugging Face Hub: upload a model folder by an allow-list of files, and download one."""

import fnmatch
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import HFValidationError, parse_ratelimit_headers, validate_repo_id

from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError, HubError, UsageError
from simple_llm.evaluation.reports import report_files
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import CARD, CURVE, EXTRA_CODE, MANIFEST, MANIFEST_FILES, METRICS, REPORTS, WEIGHTS
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import copy_tokenizer
from simple_llm.run_log import beside_result
from simple_llm.sharing.model_card import headline, read_card_facts, write_card

UPLOADED_FILES = (
    *MANIFEST_FILES,
    *EXTRA_CODE,
    MANIFEST,
    CARD,
    METRICS,
    CURVE,
    *REPORTS,
)  # names, and patterns of names
MAIN = "main"
PATIENCE = 60.0  # seconds that a call may have taken, waits included, when it is made again
LESS_PATIENCE = 15.0  # while training waits
_WAITS = (1, 2, 4, 8, 8)  # seconds before it is, where the Hub does not say
_BUSY = (408, 429, 500, 502, 503, 504)
_FAILED_UPLOADS = (HTTPError, OSError, RuntimeError, ValueError)  # the client library wraps those of single files

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)


def require_upload(repo_id: str) -> None:
    """Check, before any training, that the Hub will take an upload.

    Raises:
        UsageError: no repository can have this name; there is no token, the Hub does not know it, or it may only read.
        HubError: the Hub cannot be asked.
    """
    try:
        validate_repo_id(repo_id)
        account = _patiently(HfApi().whoami)
    except HFValidationError as error:
        raise UsageError(f"hub.repo_id: {_reason(error)}") from None
    except LocalTokenNotFoundError:
        raise UsageError(
            "an upload is asked for and there is no token; set HF_TOKEN, run `hf auth login`, or set hub.push=false"
        ) from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise UsageError("the Hub does not accept the token; set HF_TOKEN or run `hf auth login`") from None
        raise HubError(f"the Hub cannot be asked about the token: {_reason(error)}") from None
    except (HTTPError, OSError) as error:
        raise HubError(f"the Hub cannot be reached: {_reason(error)}") from None
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise UsageError("the token may only read; make one that may write, then set HF_TOKEN or run `hf auth login`")


def push_folder(
    folder: Path, repo_id: str, private: bool, branch: str = MAIN, patience: float = PATIENCE
) -> str | None:
    """Upload a model folder in one commit, its card written anew for the repository.

    The repository is made if it is not there. Afterwards the branch holds the folder's allow-listed files, without
    reports about other weights; what else somebody put there stays.

    Args:
        private: of a repository that is made.

    Returns:
        the commit's address; None where the branch holds all of it already.

    Raises:
        HubError: with the reason; the folder is as it was, but for its card.
    """
    api = HfApi()
    try:
        name = _patiently(lambda: api.create_repo(repo_id, private=private, exist_ok=True).repo_id, patience)
        if branch != MAIN:
            _patiently(lambda: api.create_branch(name, branch=branch, exist_ok=True), patience)
        with beside_result(CARD):
            write_card(folder, name, branch)
        message = headline(read_card_facts(folder))
        before = _patiently(lambda: api.model_info(name, revision=branch).sha, patience)
        commit = _patiently(lambda: _commit(api, folder, name, branch, message), patience)
    except _FAILED_UPLOADS as error:
        raise HubError(f"the upload to {repo_id} failed: {_reason(error)}") from None
    return commit.commit_url if commit.oid != before else None


def push_space(folder: Path, names: list[str], space_id: str, private: bool) -> str | None:
    """Upload a static page to a Space, which is made if it is not there; what else it holds stays.

    Args:
        names: of the folder's files that are uploaded.

    Returns:
        the commit's address; None where the Space holds all of it already.

    Raises:
        HubError: with the reason.
    """
    api = HfApi()
    try:
        name = _patiently(
            lambda: (
                api.create_repo(space_id, repo_type="space", space_sdk="static", private=private, exist_ok=True).repo_id
            )
        )
        before = _patiently(lambda: api.space_info(name).sha)
        message = f"The page of model {sha256_of(folder / 'model.onnx')[:12]}"
        what = {"repo_id": name, "repo_type": "space", "folder_path": folder, "allow_patterns": names}
        commit = _patiently(lambda: api.upload_folder(**what, commit_message=message))
    except _FAILED_UPLOADS as error:
        raise HubError(f"the upload to {space_id} failed: {_reason(error)}") from None
    return commit.commit_url if commit.oid != before else None


def push_checkpoint(
    model: SimpleLLMForCausalLM,
    data: DataConfig,
    train: TrainConfig,
    facts: dict[str, object],
) -> str | None:
    """Upload a model that is still learning, as a whole model folder on the branch `step-N`; see `push_folder`.

    Args:
        facts: of its manifest; the step, the last score and the number of parameters among them.
    """
    with tempfile.TemporaryDirectory() as stage:
        folder = Path(stage)
        copy_tokenizer(train.paths.model, folder)
        save_model(folder, model, data, train, facts)  # the card comes with the upload
        return push_folder(folder, train.hub.repo_id, train.hub.private, f"step-{facts['step']}", LESS_PATIENCE)


def _commit(api: HfApi, folder: Path, repo_id: str, branch: str, message: str) -> huggingface_hub.CommitInfo:
    """Make a branch hold what the folder holds; the client library sends only what differs.

    What is there is asked each time: a commit may have been taken although its answer was lost.
    """
    names = uploaded_names(folder)
    there = [file.rfilename for file in api.model_info(repo_id, revision=branch).siblings or ()]
    return api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, folder / name) for name in names),
            *(CommitOperationDelete(name) for name in _allowed(there) if name not in names),
        ],
        commit_message=message,
        revision=branch,
    )


def uploaded_names(folder: Path) -> list[str]:
    """Names of a folder's files that are uploaded: those of the allow-list, without reports about other weights."""
    reports = report_files(folder, sha256_of(folder / WEIGHTS))
    here = _allowed(path.name for path in folder.iterdir() if path.is_file())
    return sorted(name for name in here if name in reports or not _matches(name, REPORTS))


def download_model(repo_id: str, revision: str | None) -> Path:
    """Download a model's known files, those that are not here yet, and return their folder.

    Args:
        revision: a branch, tag or commit.

    Raises:
        ArtefactError: there is no such repository, or none that the token may see.
        HubError: the Hub cannot be asked.
    """
    name = f"{repo_id}@{revision}" if revision else repo_id
    try:
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=list(UPLOADED_FILES)))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise ArtefactError(f"{name} is neither a folder nor a repository of the Hub") from None
    except (HTTPError, OSError) as error:
        raise HubError(f"{name} is no folder here, and the Hub cannot be asked for it: {_reason(error)}") from None


def _patiently(call: Callable[[], Answer], patience: float = PATIENCE) -> Answer:
    """Make a call, and make it again while the Hub is busy or the connection breaks.

    The client library does so itself for the parts of an upload, and not for the account, the repository and the
    commit. What it has already tried in vain takes its time off the patience.
    """
    started = time.monotonic()
    for usual_wait in _WAITS:
        try:
            return call()
        except HTTPError as error:
            wait = _asked_wait(error, usual_wait)
            if not _may_pass(error) or time.monotonic() + wait - started > patience:
                raise
            _log.warning("the Hub: %s; trying again in %d s", _reason(error), wait)
            time.sleep(wait)
    return call()


def _may_pass(error: HTTPError) -> bool:
    response = getattr(error, "response", None)
    return response is None or response.status_code in _BUSY


def _asked_wait(error: HTTPError, usual_wait: float) -> float:
    """Seconds that the Hub asks to wait, by either of its two headers."""
    response = getattr(error, "response", None)
    if response is None:
        return usual_wait
    limit, seconds = parse_ratelimit_headers(response.headers), response.headers.get("Retry-After", "")
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    return int(seconds) if seconds.isdigit() else usual_wait


def _allowed(names: Iterable[str]) -> list[str]:
    return [name for name in names if _matches(name, UPLOADED_FILES)]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return "/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _reason(error: Exception) -> str:
    """One line; of an error that wraps another, that of the other too."""
    if isinstance(error, RuntimeError) and error.__cause__:
        return f"{_first_line(error)} ({_first_line(error.__cause__)})"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
