"""The words around an ingredient: measures, preparations, brands and layouts. Used by make_dataset.py alone.

Nothing here may contain the name of an ingredient, so that a row's answer can be read from its text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """How ingredients of one kind are measured (US and metric) and what is noted after the name."""

    us: tuple[str, ...]
    metric: tuple[str, ...]
    after: tuple[str, ...] = ()
    branded: bool = False


def _kind(us: str, metric: str = "", after: str = "", branded: bool = False) -> Kind:
    def words(text: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in text.split("|")) if text else ()

    return Kind(words(us), words(metric or us), words(after), branded)


# The keys are the sections of ingredients.txt. A measure that ends in a bare number counts pieces.
KINDS = {
    "baking": _kind(
        "2 cups|1 1/2 cups|1 cup|3/4 cup|1/2 cup|3 tbsp", "250 g|200 g|120 g|80 g|2 tbsp", "divided|plus extra", True
    ),
    "spice": _kind("1 tsp|1/2 tsp|2 tsp|1/4 tsp|a pinch of", after="divided|or to taste"),
    "liquid": _kind(
        "1 cup|1/2 cup|2 cups|1/4 cup|3/4 cup", "250 ml|100 ml|150 ml|400 ml", "divided|at room temperature", True
    ),
    "oil": _kind("2 tbsp|1 tbsp|3 tbsp|a drizzle of", "2 tbsp|30 ml|1 tbsp|a drizzle of", "divided|for frying", True),
    "sauce": _kind(
        "2 tbsp|1 tbsp|1 tsp|1/4 cup", "2 tbsp|1 tbsp|30 g|a spoonful of", "or to taste|plus extra to serve", True
    ),
    "butter": _kind("1/2 cup|2 tbsp|4 tbsp|1 stick", "50 g|100 g|150 g|a knob of", "melted|softened|cubed", True),
    "garlic": _kind("2 cloves|3 cloves|4 cloves of|1 clove", after="minced|crushed|thinly sliced|peeled"),
    "ginger": _kind("1 tbsp|2 inches of|a thumb of", "20 g|3 cm of|a thumb of", "grated|peeled and grated|minced"),
    "herb": _kind(
        "1/4 cup|1 bunch|2 tbsp|a handful of",
        "10 g|20 g|1 bunch|a few sprigs of",
        "chopped|finely chopped|torn|for garnish",
    ),
    "produce": _kind("1|2|3|2|1 lb", "1|2|3|2|300 g|500 g", "sliced|diced|finely chopped|cut into wedges|cubed"),
    "citrus": _kind("1|2|1/2|juice of 1|zest of 1|juice of 1/2", after="cut into wedges|thinly sliced"),
    "stalk": _kind("1 stalk|2 stalks|3 stalks of", after="finely sliced|trimmed"),
    "head": _kind("1 head|1/2 head|1 head of", after="chopped|cut into chunks|trimmed"),
    "greens": _kind("2 cups|1 cup|8 oz|1 lb", "200 g|150 g|300 g|a bag of", "rinsed|drained well"),
    "bunch": _kind("1 bunch|1/2 bunch|a bunch of", after="sliced|chopped"),
    "egg": _kind("1|2|3|4", after="beaten|lightly beaten|at room temperature"),
    "meat": _kind("1 lb|12 oz|1 1/2 lbs|2 lbs", "500 g|300 g|600 g|1 kg", "trimmed|cut into strips|patted dry"),
    "cured": _kind("8 oz|6 oz|4 oz", "150 g|200 g|100 g", "diced|sliced|cut into cubes", True),
    "seafood": _kind("1 lb|12 oz|8 oz", "400 g|250 g|500 g", "patted dry|rinsed"),
    "mince": _kind("1 lb|12 oz|8 oz", "500 g|400 g|250 g", "crumbled|at room temperature"),
    "soy": _kind("1 block|14 oz|8 oz", "300 g|200 g|1 block of", "cubed|pressed and sliced", True),
    "cheese": _kind(
        "4 oz|8 oz|1 cup|1/2 cup", "100 g|50 g|150 g|200 g", "for topping|at room temperature|divided", True
    ),
    "can": _kind(
        "1 (15 oz) can|1 (14.5-ounce) can|2 cans|1 can of",
        "1 x 400 g tin|400 g|1 tin of|2 tins",
        "drained|drained and rinsed",
        True,
    ),
    "tin": _kind(
        "1 (28 oz) can|1 (14.5 oz) can|2 cups|1 can of", "1 x 400 g tin|400 g|1 tin of|2 tins", "divided", True
    ),
    "jar": _kind(
        "1/4 cup|1/2 cup|2 tbsp|a jar of",
        "50 g|80 g|2 tbsp|1 small jar of",
        "roughly chopped|plus extra to serve",
        True,
    ),
    "grain": _kind("12 oz|8 oz|1 cup|1 1/2 cups", "300 g|200 g|250 g|400 g", "uncooked|cooked until tender", True),
    "bread": _kind("4 slices|2 slices of|1/2 loaf of", after="toasted|cubed|torn"),
    "flatbread": _kind("2|4|6|8", after="warmed|halved"),
    "dough": _kind("1 pack|8 oz|1 pack of", "250 g|1 pack|300 g", "at room temperature|thawed", True),
    "nut": _kind("1/2 cup|1/4 cup|1 cup|a handful of", "50 g|100 g|30 g|a handful of", "for topping|divided", True),
}

# Invented.
BRANDS = (
    "Kerrowdale", "Brindle Farm", "Fernmoor", "Casa Verduna", "Nonna Ilda", "Tamarro", "Hollinby's", "Old Quarry",
    "Sundrift", "Velkommen", "Oakhurst & Daughters", "Marisola", "Pennywell", "Zephyrine", "Two Ferries", "Bluegate",
)  # fmt: skip

LONG_UNITS = {"tbsp": "tablespoon", "tsp": "teaspoon", "lbs": "pounds", "lb": "pound", "oz": "ounces"}

TITLES = (
    "{title}",
    "{title}",
    "{title}:",
    "{title} (serves {number})",
    "Recipe: {title}",
    "# {title}",
    "{title}\nIngredients:",
)
INLINE_TITLES = ("{title}: ", "{title} (serves {number}): ", "{title} - ", "Recipe: {title}. ")
PROSE_TITLES = ("For {title} you need ", "{title}: I use ", "{title}, made with ", "{title}. Take ")
