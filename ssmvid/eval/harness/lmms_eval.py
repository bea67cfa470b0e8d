"""A model of lmms-eval: `--model ssmvid --model_args pretrained=FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from accelerate import Accelerator
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from ssmvid.eval.harness.answer import Answerer


class LmmsEvalModel(lmms):
    """An LMM with an encoder, one question at a time on each process.

    Args:
        pretrained: folder of the LMM and its processor.
        max_frames, fps: as in `Answerer`.
        dtype: of the LMM; 'auto' as it was saved.
        device: None takes the process's own.
        batch_size: 1.

    Raises:
        ValueError: another batch size, or no encoder is attached to what the folder holds.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        *,
        max_frames: int | None = 64,
        fps: float | None = 1.0,
        dtype: str = "auto",
        device: str | None = None,
        batch_size: int | str = 1,
    ) -> None:
        super().__init__()
        if int(batch_size) != 1:
            raise ValueError(f"ssmvid: questions are answered one at a time, batch_size must be 1, got {batch_size}")
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = device or str(self.accelerator.device)
        self.answerer = Answerer.load(pretrained, device=self.device, dtype=dtype, max_frames=max_frames, fps=fps)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer of each request, in their order."""
        answers = []
        for request in requests:
            context, to_messages, generation, doc_id, task, split = request.args
            messages = ChatMessages(messages=to_messages(self.task_dict[task][split][doc_id])).to_hf_messages()
            options = dict(generation)
            until = options.pop("until", None) or []
            until = [until] if isinstance(until, str) else until
            answers.append(self.answerer.answer(messages, until=until, **options))
            self.cache_hook.add_partial("generate_until", (context, generation), answers[-1])
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Not offered: tasks of video score generated answers."""
        raise NotImplementedError("ssmvid: loglikelihood is not offered, take a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Not offered."""
        raise NotImplementedError("ssmvid: several rounds are not offered, take a task of output_type generate_until")
