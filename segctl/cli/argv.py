"""Options of plugins on the command line: ``--model.backbone resnet50``.

Which options exist depends on the plugin that is chosen, so the parser cannot know them. They are gathered into one
hidden, repeatable option before parsing; everything else is left to the parser, which names the nearest option where
one is misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from segctl.errors import ConfigError

GATHERED = "--plugin-option"
COMMANDS = frozenset({"train", "eval", "bench", "drill", "weights", "data"})

_PLUGIN_OPTION = re.compile(r"--(model|dataset|loss)\.([^=]+)(?:=(.*))?", re.DOTALL)


def gather_plugin_options(argv: Sequence[str]) -> list[str]:
    """``--model.backbone resnet50``, also with ``=``, becomes ``--plugin-option=model.backbone=resnet50``.

    The value is the next word, whatever its first character, so that ``--loss.offset -1`` works; only another long
    option is not taken for a value. Hyphens in the option's name are read as underscores, as in all other flags.

    Raises:
        ConfigError: Such an option has no value.
    """
    if not argv or argv[0] not in COMMANDS:
        return list(argv)
    rewritten: list[str] = []
    words = iter(range(len(argv)))
    for index in words:
        word = argv[index]
        if word == "--":
            return [*rewritten, *argv[index:]]
        match = _PLUGIN_OPTION.fullmatch(word)
        if match is None:
            rewritten.append(word)
            continue
        kind, name, value = match.groups()
        if value is None:
            value = argv[index + 1] if index + 1 < len(argv) else "--"
            if value.startswith("--"):
                raise ConfigError(f"{word} has no value.", f"Write {word} VALUE or {word}=VALUE.")
            next(words)
        rewritten.append(f"{GATHERED}={kind}.{name.replace('-', '_')}={value}")
    return rewritten
