"""A model by its name: a folder on this machine, or a repository of the Hugging Face Hub."""

from pathlib import Path


def fetch_model(name: str) -> Path:
    """Find a model: a folder on this machine, or a repository of the Hub, of which known files are downloaded.

        fetch_model("me/adder")            the finished one
        fetch_model("me/adder@step-400")   a branch, tag or commit

    Raises:
        ArtefactError: neither is there.
        HubError: no such folder is here, and the Hub cannot be asked.
    """
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        return Path(name)
    from simple_llm.sharing.hub import download_model  # its client takes half as long to import as torch

    repo_id, _, revision = name.partition("@")
    return download_model(repo_id, revision or None)
