"""pipeline("text-generation") with decimal in and decimal out, however a problem is written.

The library's own puts behind a prompt what was said, decoded by itself. So 1342+879, without its =, would go on as
1342+8792221; and of work as on paper, by itself, nobody can tell what was asked. This one reads the answer off question
and answer together. pipeline() takes it from a model's folder with trust_remote_code=True, as config.json names it
(`custom_pipelines`); it travels with the model, so it imports nothing of the project.
"""

from transformers import TextGenerationPipeline

_REDEFINED = "postprocess"


class SimpleLLMPipeline(TextGenerationPipeline):
    """TextGenerationPipeline whose text is what the tokenizer reads off a whole row, its question with it.

    pipe("57*46=")                              [{"generated_text": "57*46=2622"}]
    pipe("57×46")                               [{"generated_text": "57*46=2622"}]   what ends in no = is written anew
    pipe("57*46=", return_full_text=False)      [{"generated_text": "2622"}]
    """

    def postprocess(self, model_outputs, *arguments, **settings):
        """Put the answer where the library puts the work; see TextGenerationPipeline.postprocess."""
        asked, rows = model_outputs["input_ids"], model_outputs["generated_sequence"][0]
        records = super().postprocess(model_outputs, *arguments, **settings)
        skips = settings.get("skip_special_tokens") is not False
        question = self.tokenizer.decode(asked[0], skip_special_tokens=skips)
        for record, row in zip(records, rows, strict=True):
            work, text = self.tokenizer.decode(row[asked.shape[-1] :], skips), record.get("generated_text")
            if isinstance(text, str) and text.endswith(work):
                whole, prompt = self.tokenizer.decode(row, skips), text.removesuffix(work)
                is_open = not prompt or prompt.rstrip().endswith("=")
                record["generated_text"] = prompt + whole.removeprefix(question) if is_open else whole
        return records


if not hasattr(TextGenerationPipeline, _REDEFINED):  # under another name it would be passed over
    raise ImportError(f"this library has no TextGenerationPipeline.{_REDEFINED}; see the model's requirements")
