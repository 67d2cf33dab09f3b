"""sql_execution: what finds the same is right, however it is written; what finds other rows is wrong; nothing harms."""

import time

import pytest
from finetune_trainer.contract.config import EvaluationConfig, Metric
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import sql, testset
from finetune_trainer.evaluation.contenders import Question

SCHEMA = (
    "CREATE TABLE dish (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL, price DECIMAL(10, 2), country TEXT)\n"
    "CREATE TABLE sale (dish_id INTEGER REFERENCES dish(id), amount INTEGER CHECK (amount > 0), day DATE)"
)


def question(reference: str, schema: str = SCHEMA) -> Question:
    system = {"role": "system", "content": f"Answer in SQL.\n```sql\n{schema}\n```"}
    return Question((system, {"role": "user", "content": "Which dishes?"}), reference)


def score(reference: str, answer: str) -> float:
    (found,) = sql.statistic([question(reference)], [answer]).rows
    return found


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (
            "SELECT name FROM dish WHERE country = 'Peru'",
            "```sql\nselect name from dish d where d.country='Peru';\n```",
        ),
        ("SELECT name FROM dish WHERE price > 5", "SELECT name FROM dish WHERE NOT price <= 5"),
        ("SELECT name FROM dish WHERE price BETWEEN 3 AND 6", "SELECT name FROM dish WHERE price >= 3 AND price <= 6"),
        (
            "SELECT d.name, SUM(s.amount) FROM dish d JOIN sale s ON s.dish_id = d.id GROUP BY d.id",
            "SELECT (SELECT name FROM dish WHERE id = dish_id), SUM(amount) FROM sale "
            "WHERE dish_id IN (SELECT id FROM dish) GROUP BY dish_id",
        ),
        ("SELECT AVG(price) FROM dish", "SELECT SUM(price) / COUNT(price) FROM dish"),
        ("SELECT name FROM dish ORDER BY id DESC", "SELECT name FROM dish ORDER BY -id"),
        (
            "SELECT name FROM dish WHERE id IN (SELECT dish_id FROM sale ORDER BY day)",
            "SELECT DISTINCT d.id * 0 || d.name FROM dish d, sale s WHERE 1 = 0 UNION ALL "
            "SELECT name FROM dish WHERE EXISTS (SELECT 1 FROM sale WHERE dish_id = dish.id) ORDER BY 1",
        ),
    ],
)
def test_another_way_to_find_the_same_is_right(reference: str, answer: str) -> None:
    assert score(reference, answer) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("SELECT name FROM dish WHERE country = 'Peru'", "SELECT name FROM dish WHERE country = 'Chile'"),
        ("SELECT name FROM dish WHERE country = 'Peru'", "SELECT name FROM dish"),
        ("SELECT name FROM dish WHERE price > 5", "SELECT name FROM dish WHERE price >= 5"),
        ("SELECT name, price FROM dish", "SELECT price, name FROM dish"),
        ("SELECT COUNT(*) FROM dish", "SELECT COUNT(country) FROM dish"),
        ("SELECT name FROM dish ORDER BY id", "SELECT name FROM dish ORDER BY id DESC"),
        ("SELECT name FROM dish", "SELECT DISTINCT name FROM dish"),
        ("SELECT name FROM dish", "I would look into the table dish."),
        ("SELECT name FROM dish", ""),
        ("SELECT name FROM dish", "SELECT name FROM dish\0"),
        ("SELECT name FROM dish", "SELECT name FROM dish WHERE name <> '\ud800'"),
    ],
)
def test_what_finds_other_rows_or_none_is_wrong(reference: str, answer: str) -> None:
    assert score(reference, answer) == 0.0


def test_where_nothing_is_found_other_words_that_find_nothing_are_no_proof() -> None:
    reference = "SELECT name FROM dish WHERE id < id"
    assert score(reference, "SELECT name FROM dish WHERE price < price") == 0.0
    assert score(reference, "select name\nfrom dish where id < id;") == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "DROP TABLE dish",
        "DELETE FROM dish; SELECT name FROM dish",
        "ATTACH '/tmp/stolen.db' AS other",
        "PRAGMA table_info(dish)",
        "SELECT load_extension('/tmp/evil.so')",
        "SELECT zeroblob(1000000000)",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT MAX(x) FROM n",
        "SELECT a.name FROM dish a, dish b, dish c, dish d, dish e, dish f ORDER BY random()",
        "SELECT name FROM dish WHERE replace(hex(zeroblob(490000 + id)), '0', 'a') LIKE "
        "'%' || replace(hex(zeroblob(24000)), '0', 'a') || 'b'",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 999) SELECT hex(zeroblob(1999)) FROM n",
        "SELECT hex(zeroblob(1900)) FROM dish a, dish b, dish c ORDER BY 1 || a.id",
        "SELECT name FROM dish WHERE " + "a" * 100_000,
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_an_answer_can_do_no_harm_and_ends(answer: str) -> None:
    began = time.process_time()
    assert score("SELECT name FROM dish", answer) == 0.0
    # Four databases, a million steps each: seconds are far off.
    assert time.process_time() - began < 5


def test_the_same_answers_have_the_same_scores_every_time() -> None:
    questions = [question(f"SELECT name FROM dish WHERE price > {number}") for number in range(8)]
    answers = [f"SELECT name FROM dish WHERE price > {number % 5}" for number in range(8)]
    assert sql.statistic(questions, answers).rows == sql.statistic(questions, answers).rows == (1, 1, 1, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (
            question("SELECT name FROM dish", "a list of dishes"),
            "the prompt of row 2 of test has no CREATE TABLE statement",
        ),
        (
            question("SELECT title FROM dish"),
            "the right answer of row 2 of test does not run on its prompt's tables in SQLite: no such column: title",
        ),
    ],
)
def test_rows_that_it_says_nothing_about_are_refused_before_anything_is_trained(odd: Question, why: str) -> None:
    test = [question("SELECT name FROM dish"), odd]
    with pytest.raises(StageError) as found:
        testset.chosen(EvaluationConfig(metrics=(Metric.SQL_EXECUTION,)), test)
    assert found.value.outcome == Outcome.CONFIG_INVALID
    assert found.value.message == f"evaluation.metrics: sql_execution can't be used with these rows: {why}."
    metrics, _ = testset.chosen(EvaluationConfig(), test)
    assert Metric.SQL_EXECUTION not in metrics


def test_it_is_chosen_where_all_answers_run() -> None:
    metrics, why = testset.chosen(EvaluationConfig(), [question("SELECT name FROM dish")] * 3)
    assert metrics == (Metric.SQL_EXECUTION, Metric.EXACT_MATCH)
    assert why == "All answers are SQL, which runs on the tables of its prompt."


@pytest.mark.parametrize(
    "schema", ["CREATE TABLE " * 100_000, "a" * 1_000_000, "CREATE TABLE dish (" + "(" * 1_000_000]
)
def test_a_prompt_that_is_no_schema_is_told_soon(schema: str) -> None:
    began = time.process_time()
    assert sql.unfit([question("SELECT name FROM dish WHERE " + "a" * 100_000, schema)])
    assert time.process_time() - began < 5
