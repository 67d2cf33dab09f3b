"""Writes the recipe assistant's train.jsonl and test.jsonl: recipes as people write them, and their ingredients.

    python make_dataset.py [DIRECTORY]

A dish of dishes.txt gives a row its title and ingredients; ingredients.txt and phrases.py give the words around each
ingredient. The answer is the plain names, in the order of the text. Same seed, same bytes.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from phrases import BRANDS, INLINE_TITLES, KINDS, LONG_UNITS, PROSE_TITLES, TITLES

HERE = Path(__file__).parent
SEED = 7
TEST_ROWS = 40
# A test row's ingredients were each seen this often in training, so the test asks for reading, not for knowledge.
MIN_TRAIN_OCCURRENCES = 5
SYSTEM_PROMPT = "List the generic ingredients of the recipe."


@dataclass(frozen=True)
class Ingredient:
    """One entry of ingredients.txt."""

    name: str
    plural: str
    kind: str
    before: tuple[str, ...]  # words that may stand before the name


@dataclass(frozen=True)
class Recipe:
    """One dish with the ingredients that its row lists, in the row's order."""

    title: str
    ingredients: tuple[Ingredient, ...]


@dataclass(frozen=True)
class Style:
    """One writer's habits: the same for all lines of a row."""

    metric: bool
    long_units: bool  # "tablespoon", not "tbsp"
    tight_units: bool  # "250g", not "250 g"
    name_first: bool  # "Butter - 50 g", not "50 g butter"
    separator: str  # between name and measure
    layout: str  # lines, commas, semicolons or prose
    bullet: str


def sections(path: Path) -> list[tuple[str, str]]:
    """The (section, line) pairs of a text file with [section] headings, comments and blank lines left out."""
    found, section = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            found.append((section, line))
    return found


def read_ingredients() -> dict[str, Ingredient]:
    """Generic name → ingredient."""
    ingredients = {}
    for kind, line in sections(HERE / "ingredients.txt"):
        names, _, before = line.partition(": ")
        name, _, plural = names.partition("/")
        words = tuple(before.split(", ")) if before else ()
        ingredients[name] = Ingredient(name, plural or name, kind, words)
    return ingredients


def read_dishes() -> dict[str, list[str]]:
    """Title → ingredient names."""
    pairs = (line.split(": ") for _, line in sections(HERE / "dishes.txt"))
    return {title: names.split(", ") for title, names in pairs}


def pick_recipes(rng: random.Random) -> list[Recipe]:
    """Every dish once, in random order, with its ingredients shuffled and now and then one left out."""
    ingredients = read_ingredients()
    recipes = []
    for title, names in read_dishes().items():
        spare = [name for name in names[1:] if name not in title.lower()]
        left_out = rng.choice(spare) if len(names) > 3 and spare and rng.random() < 0.5 else None
        listed = [ingredients[name] for name in names if name != left_out]
        rng.shuffle(listed)
        recipes.append(Recipe(title, tuple(listed)))
    rng.shuffle(recipes)
    return recipes


def split(recipes: list[Recipe]) -> tuple[list[Recipe], list[Recipe]]:
    """(train, test): whole dishes are held out, and only such as train teaches every ingredient of."""
    seen = Counter(ingredient for recipe in recipes for ingredient in recipe.ingredients)
    train: list[Recipe] = []
    test: list[Recipe] = []
    for recipe in recipes:
        known = all(seen[ingredient] > MIN_TRAIN_OCCURRENCES for ingredient in recipe.ingredients)
        if known and len(test) < TEST_ROWS:
            test.append(recipe)
            seen.subtract(recipe.ingredients)
        else:
            train.append(recipe)
    return train, test


def pick_style(rng: random.Random) -> Style:
    """Most writers put one ingredient on a line; names before measures, and prose, are rarer."""
    layout = rng.choices(("lines", "commas", "semicolons", "prose"), weights=(66, 16, 8, 10))[0]
    return Style(
        metric=rng.random() < 0.5,
        long_units=rng.random() < 0.25,
        tight_units=rng.random() < 0.35,
        name_first=layout in ("lines", "semicolons") and rng.random() < 0.2,
        separator=rng.choice((", ", " - ", ": ")),
        layout=layout,
        bullet=rng.choice(("", "", "- ", "- ", "* ", "• ")),
    )


def measure_of(ingredient: Ingredient, style: Style, rng: random.Random) -> str:
    """A quantity that fits the ingredient, in the writer's units and spelling."""
    kind = KINDS[ingredient.kind]
    measure = rng.choice(kind.metric if style.metric else kind.us)
    if style.tight_units:
        measure = re.sub(r"(\d) (g|kg|ml)\b", r"\1\2", measure)
    for short, long in LONG_UNITS.items() if style.long_units else ():
        plural = "s" if short in ("tbsp", "tsp") and measure[0] in "234" else ""
        measure = re.sub(rf"\b{short}\b", long + plural, measure)
    return measure


def noun(ingredient: Ingredient, measure: str) -> str:
    """The name as it stands in the text: "1 egg" and "1/2 onion", but "2 eggs" and "200 g tomatoes"."""
    return ingredient.name if re.search(r"(^|of )1(/2)?$", measure) else ingredient.plural


def ingredient_line(ingredient: Ingredient, style: Style, rng: random.Random) -> str:
    """Such as "2 large onions, diced", "Pennywell butter: 50 g" or "black pepper to taste"."""
    kind = KINDS[ingredient.kind]
    measure = measure_of(ingredient, style, rng)
    before = [rng.choice(ingredient.before)] if ingredient.before and rng.random() < 0.45 else []
    brand = [rng.choice(BRANDS)] if kind.branded and rng.random() < 0.15 else []
    name = " ".join([*brand, *before, noun(ingredient, measure)])
    if ingredient.kind == "spice" and rng.random() < 0.2:
        return f"{name} to taste"
    whole = " of " not in measure  # "juice of 1 lime, sliced" makes no sense
    after = rng.choice(kind.after) if kind.after and whole and rng.random() < 0.35 else ""
    if style.name_first:
        note = f" ({after})" if after else ""
        return f"{name[0].upper()}{name[1:]}{note}{style.separator}{measure.removesuffix(' of')}"
    # A comma inside an ingredient would read as the next one in a list with commas.
    note = f", {after}" if after and style.layout in ("lines", "semicolons") else ""
    return f"{measure} {name}{note}"


def user_text(recipe: Recipe, style: Style, rng: random.Random) -> str:
    """The whole recipe as one writer puts it."""
    lines = [ingredient_line(ingredient, style, rng) for ingredient in recipe.ingredients]
    templates = {"lines": TITLES, "prose": PROSE_TITLES}.get(style.layout, INLINE_TITLES)
    heading = rng.choice(templates).format(title=recipe.title, number=rng.choice((2, 4, 6)))
    if style.layout == "lines":
        return "\n".join([heading, *(style.bullet + line for line in lines)])
    if style.layout == "prose":
        return f"{heading}{', '.join(lines[:-1])} and {lines[-1]}."
    return heading + (", " if style.layout == "commas" else "; ").join(lines)


def row(recipe: Recipe, rng: random.Random) -> dict[str, list[dict[str, str]]]:
    """The recipe as one conversation of the dataset."""
    answer = ", ".join(ingredient.name.lower() for ingredient in recipe.ingredients)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": user_text(recipe, pick_style(rng), rng)},
            {"role": "assistant", "content": answer},
        ]
    }


def main(directory: Path) -> None:
    """Write both files into the directory."""
    rng = random.Random(SEED)
    for name, recipes in zip(("train", "test"), split(pick_recipes(rng)), strict=True):
        lines = [json.dumps(row(recipe, rng), ensure_ascii=False) + "\n" for recipe in recipes]
        (directory / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
