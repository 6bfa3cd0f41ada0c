"""What other software does with a model and its tokenizer: it wants an end token, and it fine-tunes and scores."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

from simple_llm.sharing.model_card import CardFacts, model_card
from tests.model_folders import write_model
from tests.tiny_models import make_data_config, make_train_config

pytestmark = pytest.mark.library

SUMS = ["1+2=3", "12+7=19", "90+9=99", "45+54=99"]


@pytest.fixture(scope="module", params=[1, 2])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("tuned")
    write_model(made, make_data_config(), make_train_config(request.param))
    return made


@pytest.fixture
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def test_fault_42_there_is_an_end_token_that_changes_nothing_else(folder, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("+", model.config.eos_token_id)
    assert tokenizer.eos_token_id not in tokenizer.all_special_ids
    assert "eos_token" not in tokenizer.special_tokens_map
    ids = tokenizer("12+7=19")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "12+7=19"
    tokenizer.save_pretrained(tmp_path)
    assert "eos_token" not in json.loads((tmp_path / "tokenizer_config.json").read_text())


@pytest.mark.parametrize("text", SUMS)
def test_fault_42_a_row_with_its_end_token_behind_it_is_that_row(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer(text + tokenizer.eos_token)["input_ids"] == ids
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer(text + tokenizer.eos_token + tokenizer.eos_token)
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer(text.partition("=")[0] + tokenizer.eos_token)


def test_fault_42_a_prompt_and_what_follows_add_up_to_the_row_as_those_who_score_take_it(tokenizer):
    for text in SUMS:
        prompt = text.partition("=")[0] + "="
        whole, context = tokenizer(text)["input_ids"], tokenizer(prompt)["input_ids"]
        assert whole[: len(context)] == context
        assert tokenizer.decode(whole[len(context) :]) == text.removeprefix(prompt)


def test_fault_42_the_librarys_trainer_fine_tunes(folder, tokenizer, tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=30,
        per_device_train_batch_size=4,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [tokenizer(text) for text in SUMS]
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert any(not torch.equal(one, before[name]) for name, one in model.state_dict().items())
    trainer.save_model(str(tmp_path / "tuned"))
    again = AutoTokenizer.from_pretrained(tmp_path / "tuned", trust_remote_code=True)
    assert again("12+7=19")["input_ids"] == rows[1]["input_ids"]


@pytest.mark.parametrize(
    ("tokens_per_step", "said"),
    [(1, None), (2, "the second token after it"), ("all", "what is said in the same place")],
)
def test_fault_43_a_card_says_which_token_logits_are_for(tokens_per_step, said):
    training = {"step": 1, "num_correct": 1, "num_total": 1, "num_parameters": 1}
    text = model_card(CardFacts(make_data_config(), make_train_config(tokens_per_step), training))
    assert ("shifts logits by one token itself" in text) is (said is not None)
    assert said is None or f"Its logits at a token are for {said}" in text


def test_fault_43_the_loss_of_labels_is_that_of_the_token_each_logit_is_for(folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    k, ids = model.config.tokens_per_step, tokenizer(SUMS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        outputs = model(ids, labels=ids)
    own = torch.nn.functional.cross_entropy(outputs.logits[0, :-k], ids[0, k:])
    torch.testing.assert_close(outputs.loss, own)


def test_fault_43_it_is_said_where_labels_are_documented(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert "Software that shifts logits by one token itself is wrong" in " ".join(model.forward.__doc__.split())
