"""Which rows of train stand as examples before a question."""

import pytest
from finetune_trainer.evaluation import choosers
from finetune_trainer.evaluation.contenders import Question

SYSTEM = {"role": "system", "content": "List the ingredients."}
DISHES = ["egg soup with leek", "rice with pork", "flour dumplings", "leek pie", "pork roast with rice and egg"]


def question(text: str, reference: str = "") -> Question:
    return Question((SYSTEM, {"role": "user", "content": text}), reference or text.split()[0])


TRAIN = [question(dish) for dish in DISHES]


class TestFewShot:
    def test_all_questions_get_the_same(self) -> None:
        choose = choosers.few_shot(TRAIN, 2, seed=1)
        assert len(choose(TRAIN[0])) == 2
        assert choose(TRAIN[0]) == choose(question("anything"))

    def test_the_seed_chooses_and_the_order_of_train_does_not(self) -> None:
        same = choosers.few_shot(TRAIN[::-1], 2, seed=1)(TRAIN[0])
        assert same == choosers.few_shot(TRAIN, 2, seed=1)(TRAIN[0])
        others = [choosers.few_shot(TRAIN, 2, seed)(TRAIN[0]) for seed in range(6)]
        assert any(other != same for other in others)


class TestRetrieval:
    def test_the_most_similar_stands_nearest_to_the_question(self) -> None:
        found = choosers.retrieval(TRAIN, 2)(question("roast pork"))
        assert [row.asked for row in found] == [DISHES[1], DISHES[4]]

    def test_languages_without_spaces_are_compared_by_characters(self) -> None:
        train = [question(text, "x") for text in ("鸡蛋汤怎么做", "米饭和猪肉", "苹果派")]
        assert [row.asked for row in choosers.retrieval(train, 1)(question("猪肉怎么炒米饭", "x"))] == ["米饭和猪肉"]

    def test_a_question_without_a_known_word_gets_the_first_rows(self) -> None:
        found = choosers.retrieval(TRAIN, 2)(question("xylophone"))
        assert [row.asked for row in found] == [DISHES[1], DISHES[0]]

    def test_rows_that_are_as_similar_come_in_the_order_of_train(self) -> None:
        alike = [question(f"{kind} pie") for kind in ("apple", "leek", "pork")]
        found = choosers.retrieval(alike, 3)(question("pie"))
        assert [row.asked for row in found] == ["pork pie", "leek pie", "apple pie"]

    @pytest.mark.parametrize("train", [["1+2", "2+3"], ["", "?"], []])
    def test_train_without_any_word_gives_its_first_rows(self, train: list[str]) -> None:
        rows = [question(text, "3") for text in train]
        assert choosers.retrieval(rows, 2)(question("1+1 pie", "2")) == rows[::-1]

    def test_the_same_row_is_shown_once(self) -> None:
        found = choosers.retrieval([*TRAIN, *TRAIN], 5)(question("rice"))
        assert len({row.asked for row in found}) == 5

    def test_there_are_no_more_than_train_has(self) -> None:
        assert len(choosers.retrieval(TRAIN, 64)(question("rice"))) == len(TRAIN)
