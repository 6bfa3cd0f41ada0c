"""What other software does with a model and its tokenizer: it wants an end token, and it fine-tunes and scores."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

from simple_llm.files.names import PIPELINE_CODE
from simple_llm.sharing.model_card import CardFacts, model_card
from tests.model_folders import write_model
from tests.tiny_models import make_data_config, make_train_config, tiny_model

pytestmark = pytest.mark.library

SUMS = ["1+2=3", "12+7=19", "90+9=99", "45+54=99"]
SHORT_TRAINING = {
    "learning_rate": 3e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
}


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


def test_fault_42_a_model_that_was_loaded_and_saved_again_is_still_the_pipeline_that_it_was(folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    model.save_pretrained(tmp_path)
    assert (tmp_path / PIPELINE_CODE).read_bytes() == (folder / PIPELINE_CODE).read_bytes()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["custom_pipelines"] == json.loads((folder / "config.json").read_text())["custom_pipelines"]


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
        output_dir=str(tmp_path), max_steps=30, per_device_train_batch_size=4, **SHORT_TRAINING
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


def supervised_fine_tuning(folder, tokenizer, tmp_path):
    """TRL's trainer of a model, which asks its blocks for states and has a head of its own."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    settings = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_steps=20,
        per_device_train_batch_size=len(SUMS),
        bf16=False,
        max_length=None,
        **SHORT_TRAINING,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    rows = Dataset.from_list([{"text": text} for text in SUMS])
    return trl.SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)


def test_fault_42_and_fault_43_trl_fine_tunes_with_the_models_own_loss_or_is_refused(folder, tokenizer, tmp_path):
    trainer = supervised_fine_tuning(folder, tokenizer, tmp_path)
    if trainer.model.config.tokens_per_step != 1:
        with pytest.raises(NotImplementedError, match="pass labels to the model and take its own"):
            trainer.train()
        return
    rows = tokenizer(SUMS, padding=True, padding_side="right", return_tensors="pt")
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    own = trainer.model(**rows, labels=labels).loss.item()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(own, rel=1e-4)
    assert losses[-1] < losses[0]


@torch.inference_mode()
def test_fault_42_an_evaluation_harness_scores_and_asks(folder, tokenizer):
    harness = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    asker = harness.HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", max_length=64, device="cpu")
    prompts = [text.partition("=")[0] + "=" for text in SUMS]
    settings = {"until": ["\n", "+"], "max_gen_toks": 4}
    asked = [Instance("generate_until", {}, (prompt, settings), index) for index, prompt in enumerate(prompts)]
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        said = model.generate(ids, max_new_tokens=4)[0, ids.size(1) :]
        answers.append(tokenizer.decode(said, skip_special_tokens=True).partition("+")[0])
    assert asker.generate_until(asked, disable_tqdm=True) == answers
    if model.config.tokens_per_step != 1:
        return  # scores are of the token after, as HUB.md and the card say
    pairs = [(prompt, text.removeprefix(prompt)) for prompt, text in zip(prompts, SUMS, strict=True)]
    scored = asker.loglikelihood([Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)])
    for text, prompt, (score, _) in zip(SUMS, prompts, scored, strict=True):
        ids, first = tokenizer(text, return_tensors="pt")["input_ids"], len(tokenizer(prompt)["input_ids"])
        of_each = model(ids).logits[0, first - 1 : -1].log_softmax(-1).gather(1, ids[0, first:, None])
        assert score == pytest.approx(of_each.sum().item(), rel=1e-4)


def test_fault_42_what_software_asks_for_where_an_answer_stops_is_no_error(tokenizer):
    assert tokenizer.encode("\n", add_special_tokens=False) == tokenizer.encode("") == []
    assert tokenizer.encode(tokenizer.decode([tokenizer.eos_token_id])) == [tokenizer.eos_token_id]
    for text in ("stop", "="):
        with pytest.raises(ValueError, match="expected a sum"):
            tokenizer.encode(text)


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


def test_fault_43_label_smoothing_is_refused(folder, tokenizer, tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True),
        args=TrainingArguments(str(tmp_path), max_steps=1, label_smoothing_factor=0.1, report_to=[], use_cpu=True),
        train_dataset=[tokenizer(text) for text in SUMS],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    with pytest.raises(NotImplementedError, match="label smoothing, or another loss than this model's: pass labels"):
        trainer.train()


PAST_THE_HEAD = {
    "one token a step": {},
    "two": {"tokens_per_step": 2},
    "by index": {"position_embedding": "learned"},
    "window": {"attention_window": {"left": 0, "right": 1}, "position_period": 4, "n_layer": 1},
}


@torch.inference_mode()
@pytest.mark.parametrize("kind", PAST_THE_HEAD)
def test_fault_43_who_asks_the_blocks_past_the_head_gets_the_states_that_the_head_gets(kind):
    model = tiny_model(**PAST_THE_HEAD[kind])
    rows = torch.tensor([[2, 4, 5, 2, 6, 2], [0, 0, 2, 7, 2, 2]])  # the second is padded
    mask = (rows > 0).long()
    for one in (model, copy.deepcopy(model)):
        states = one.base_model(rows, attention_mask=mask, use_cache=False).last_hidden_state
        torch.testing.assert_close(one.lm_head(states), model(rows, attention_mask=mask).logits, rtol=0, atol=0)
    copied = copy.deepcopy(model)
    copied.config.n_positions = 2  # a copy goes by its own
    with pytest.raises(ValueError, match="past the position table"):
        copied.base_model(rows)
    assert model.base_model(rows) is not None


def test_fault_43_a_loss_of_states_is_refused_where_they_are_for_another_token(folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).train()
    ids = tokenizer(SUMS[1], return_tensors="pt")["input_ids"]
    if model.config.tokens_per_step == 1:
        assert model.base_model(ids).last_hidden_state.requires_grad
        return
    with pytest.raises(NotImplementedError, match="a loss of the states: pass labels to the model"):
        model.base_model(ids)


def test_fault_43_it_is_said_where_labels_are_documented(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert "Software that shifts logits by one token itself is wrong" in " ".join(model.forward.__doc__.split())
