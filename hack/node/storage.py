"""Prints the storage manifest that stands in kind's source as a Go constant. node_image.sh calls it with that file."""

import re
import sys
from pathlib import Path

source = Path(sys.argv[1]).read_text()
constants = dict(re.findall(r'^const (\w+) = "(.*)"$', source, re.MULTILINE))
manifest = source.split("const defaultStorageManifest = `", 1)[1].rsplit("`", 1)[0]
print(re.sub(r"` \+ (\w+) \+ `", lambda found: constants[found[1]], manifest))
