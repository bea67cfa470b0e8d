import abc
import ast


class CacheHook:
    def add_partial(self, attr, req, res):
        pass


class lmms(abc.ABC):
    is_simple = True

    def __init__(self):
        self._rank, self._world_size = 0, 1
        self.cache_hook = CacheHook()
        self.task_dict = {}

    @classmethod
    def create_from_arg_string(cls, arg_string, additional_config=None):
        def value(text):
            try:
                return ast.literal_eval(text)
            except (SyntaxError, ValueError):
                return text

        args = {key: value(own) for key, own in (pair.split("=") for pair in arg_string.split(","))}
        return cls(**args, **{key: own for key, own in (additional_config or {}).items() if own is not None})

    @property
    def rank(self):
        return self._rank

    @property
    def world_size(self):
        return self._world_size

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...
