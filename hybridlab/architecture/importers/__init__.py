"""Reads the descriptions of published models as architectures, and their weights.

``huggingface.read`` turns the content of a ``config.json`` into an ``Imported``: an architecture, where each of its
weights comes from, and notes. Nothing is downloaded, no code of the model's is run, and ``transformers`` is not needed.
``weights.load_weights`` fills a built model from safetensors files. ``megatron.read`` reads a layer pattern.

A new family is one file in ``families/``, found by its registration:

    @family("llama", source="https://arxiv.org/abs/2302.13971", defaults={"hidden_size": 4096, ...})
    def llama(config: Fields) -> Draft:
        draft = Draft(config.whole("hidden_size"), "rms_norm", config.number("rms_norm_eps"))
        ...
        return draft

- ``defaults`` are the numbers of the family's published config class, which stand for fields that a file leaves out.
  Every one must be read or be known as harmless: a test compares them with ``transformers``.
- ``Fields`` reads one field by its type (``whole``, ``number``, ``flag``, ``choice``, ``section``, …) and remembers it.
  What is wrong is collected, the default is used instead, and in the end one error lists all: wrong types, values that
  no component computes (``only``, ``refuse``), and fields that nobody read. Dropout is noted, not built (``dropout``).
- ``Draft`` collects ``Part``s: one node each (or a group of them) with its weights. ``before`` is the input, ``layers``
  has one list of parts a layer, ``after`` is the final norm and the head. Layers that repeat become groups.
- The weights of a part are named as in our module: ``body.`` and the component's own name, ``norm.`` for the norm of
  its residual. ``take("a.weight")`` says where one comes from; ``joined``, ``stacked`` and ``scaled`` build it of
  several, transposed, or with a multiplier folded in. ``first_of`` is for files that may name it in two ways.
- ``parts.py`` has what most families share: embedding, attention, gated feed-forward layer, experts, Mamba-2, head.
- ``@writes("llama", "LlamaForCausalLM")`` registers the way back: a function from a ``NormalForm`` (the architecture
  with groups, names and defaults written out) to the fields of a config. It need not ask whether the architecture is
  one of the family: the config is read again, and only where that gives the same model is anything written. For the
  weights, ``then`` and ``built`` take what undoes them.
"""
