# ruff: noqa: RUF001
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.evaluation.contamination import ProblemIndex
from fpa_verl.evaluation.wording import FEWEST, normalised, shingles, without_instruction, words

TRAINING = {
    "t1": r"An ellipse in the first quadrant is tangent to both axes. One focus is at $(3,7)$. Compute $d$.",
    "t2": r"What is the remainder when $1 + 2 + 3 + 4 + \dots + 9 + 10$ is divided by 8?",
    "t3": "Find x.",
    "t4": "find x",
}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\[\cos^3 \frac{2 \pi}{7}.\]", r"$\cos ^{3} \dfrac{2 \pi}{7}$"),
        (r"$1+2+\cdots+9$", r"1 + 2 + \ldots + 9"),
        (r"\left( x, y \right)", "(x,y)"),
        (r"$4^{\circ}$", "4°"),
        (r"$\text { and } \quad a$", "AND a"),
        ("a \N{MINUS SIGN} b", "a-b"),
        ("ﬁnd  x²\n", "Find x^2."),
        (r"\(a_1\)", r"$a_{1}$"),
        (r"\log_82", r"\log_8 2"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"$x^{4}+j x^{2}+k x$", "$x^4 + jx^2 + kx$"),
        (r"$3\times 4 \div 2$", "3×4÷2"),
        ("小明有１２个苹果。", "小明 有 12 个苹果"),
        ("มีส้ม ๑๒ ผล", "มีส้ม 12 ผล"),
    ],
)
def test_two_spellings_of_one_problem(one, other):
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$9$ is divided by 8", "$9$ is divided by 9"),
        (r"$88 \div (4 \div 2)$", r"$88 \div 4 \div 2$"),
        ("a + b", "a - b"),
        ("2516", "25 16"),
        (r"$\tan 22.5^\circ.$", r"$\tan 225^\circ$."),
        ("$x_1^2$", "$x^{12}$"),
        (r"x \leftarrow y", r"x \rightarrow y"),
        ("3×4", "3÷4"),
        # Tone marks and vowels above and below the letters: far and near, in Thai.
        ("ไกล ๒", "ไกล้ ๒"),
        ("มี ๑๒ กล่อง", "มี ๑๓ กล่อง"),
    ],
)
def test_two_problems_stay_two(one, other):
    assert normalised(one) != normalised(other)


def test_normalised_by_hand():
    text = r"Let $\dfrac{1}{2}x_{1}=\left|-y\right|$, \textbf{ok}?"
    assert words(text) == ["let", "frac", "1", "2", "x", "1", "=", "-", "y", "ok"]
    assert normalised(text) == "letfrac1 2x1=-yok"


# Unicode at large, and LaTeX put together from what the rules are about.
LATEX = st.lists(st.sampled_from([*"\\{}$^_ .,x1(=|", r"\left", r"\dfrac", r"\text", r"\dots", r"\[", "°", "İ"])).map(
    "".join
)


@given(st.one_of(st.text(max_size=30), LATEX))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@given(LATEX)
def test_spaces_dollars_and_case_do_not_matter(text):
    assert normalised(f" ${text.upper().lower()}$\n") == normalised(text.lower())


def test_scripts_without_spaces_have_a_word_a_character():
    assert words("小明有12个apple。") == ["小", "明", "有", "12", "个", "apple"]
    assert words("りんごを2個") == ["り", "ん", "ご", "を", "2", "個"]
    assert words("กี่ผล") == ["กี่", "ผ", "ล"]
    assert words("사과 세 개") == ["사과", "세", "개"]


def test_shingles_by_hand():
    assert shingles("One two, three four.", length=3) == {("one", "two", "three"), ("two", "three", "four")}
    # A text shorter than a shingle is one; figures are no text.
    assert shingles("Find x. [asy] draw((0,0)--(1,1)); [/asy]") == {("find", "x")}
    assert shingles("[asy] draw(); [/asy]") == shingles("") == set()


def test_the_same_problem_is_found():
    (match,) = ProblemIndex(TRAINING).matches({"e": TRAINING["t1"].replace("$", "").upper()})
    assert (match.evaluation_id, match.training_id, match.similarity, match.same) == ("e", "t1", 1.0, True)


def test_of_equal_training_problems_the_first_is_named():
    (match,) = ProblemIndex(TRAINING).matches({"e": "FIND X"})
    assert (match.training_id, match.same) == ("t3", True)


def test_a_near_problem_is_found_by_the_share_of_shingles():
    near = {"e": r"What is the remainder when $1 + 2 + 3 + 4 + \dots + 9 + 10$ is divided by 9?"}
    # 21 tokens, so 17 runs of five; the last word is in one of them: 16 common, 18 in all.
    (match,) = ProblemIndex(TRAINING).matches(near)
    assert (match.training_id, match.same, match.similarity) == ("t2", False, pytest.approx(16 / 18))
    assert ProblemIndex(TRAINING).matches(near, near=0.9) == []


def test_the_same_words_with_another_figure_are_near():
    index = ProblemIndex({"t": "Find the area of this. [asy] draw((0,0)--(1,1)); [/asy]"})
    (match,) = index.matches({"e": "Find the area of this. [asy] draw((0,0)--(2,2)); [/asy]"})
    assert (match.same, match.similarity) == (False, 1.0)


def test_closest_first():
    index = ProblemIndex(TRAINING)
    found = index.matches(
        {
            "far": "What is the remainder when $1 + 2 + 3 + 4$ is divided by 8?",
            "near": TRAINING["t2"].replace("8", "9"),
            "same": TRAINING["t2"],
            "other": "How many sheep are left?",
        },
        near=0.2,
    )
    assert [match.evaluation_id for match in found] == ["same", "near", "far"]


def test_nothing_matches_nothing():
    assert ProblemIndex({}).matches({"e": "1 + 1"}) == []
    assert ProblemIndex({"t": "$$"}).matches({"e": "..."}) == []
    assert ProblemIndex(TRAINING).matches({}) == []


NAMES = ("Tom", "Anna", "Ravi", "Mei", "Omar", "Ida", "Jon", "Lea")
NUMBERS = range(3, 60)


def boxes(seed, name=None):
    """A word problem of one template; `seed` chooses the name and both numbers, the same pair of numbers once."""
    first, second = NUMBERS[seed % len(NUMBERS)], 100 + seed
    name = name or NAMES[seed % len(NAMES)]
    return (
        f"{name} has {first} boxes with {second} pencils each. {name} gives half of all pencils to the school and "
        "keeps the rest. How many pencils are left in the end?"
    )


def templated(first, last, text=boxes):
    return {f"{first}/{i}": text(i) for i in range(first, last)}


def test_problems_of_one_template_are_not_near_one_another():
    training, evaluation = templated(0, 300), templated(300, 420)
    found = ProblemIndex(training).compare(evaluation)
    assert (found.matches, found.templated) == ([], 120)
    note = found.template_note("test.jsonl", len(evaluation))
    assert note.startswith("120 of test.jsonl's 120 problems are made like many others (a template)")


def test_in_a_template_what_has_the_same_numbers_is_near_and_what_is_the_same_is_found():
    evaluation = {**templated(300, 420), "other name": boxes(7, "Vera"), "same": boxes(8)}
    found = ProblemIndex(templated(0, 300)).compare(evaluation)
    assert [(m.evaluation_id, m.training_id, m.same) for m in found.matches] == [
        ("same", "0/8", True),
        ("other name", "0/7", False),
    ]
    assert found.templated == 120


def test_a_set_of_several_templates():
    def text(i):
        return (
            boxes(i)
            if i % 2
            else f"A train of {i} cars goes {i + 900} km. How far does each of {i} such trains go in all?"
        )

    assert ProblemIndex(templated(0, 300, text)).compare(templated(300, 420, text)).matches == []


def addends(sum_, one):
    return f"The sum of two numbers is {sum_} and one of them is {one}. What is the other number?"


def test_in_a_template_one_of_the_numbers_may_be_the_same_by_chance():
    """A sum is rare, and all five runs of words around it with it; four addends are not."""
    training = {f"t{i}": addends(11 + i % 90, 2 + i % 4) for i in range(300)}
    evaluation = {f"e{i}": addends(11 + i, 9) for i in range(60)}
    found = ProblemIndex(training).compare(evaluation)
    assert (found.matches, found.templated) == ([], 60)


STORIES = [
    f"The {animal} of {town} {verb} {9 + i} {thing} on {day}, and {3 * i + 2} more later. Of these {thing} "
    f"the next {animal} in {town} took {i + 2}; what was their {quantity}?"
    for i, (animal, town, verb, thing, day, quantity) in enumerate(
        zip(
            ["baker", "miner", "pilot", "nurse", "clerk", "judge", "cook", "monk", "poet", "smith", "guard", "sailor"],
            ["Oslo", "Bern", "Riga", "Rome", "Lima", "Kiev", "Cork", "Bath", "York", "Nice", "Cadiz", "Turin"],
            ["sold", "saw", "flew", "bound", "filed", "heard", "fried", "wrote", "read", "made", "kept", "tied"],
            ["loaves", "seams", "miles", "wounds", "forms", "cases", "eggs", "books", "odes", "nails", "keys", "knots"],
            [
                "Monday",
                "Friday",
                "Sunday",
                "Tuesday",
                "May 1",
                "June 2",
                "July 3",
                "Easter",
                "Lent",
                "leap day",
                "a day",
                "a trip",
            ],
            [
                "sum",
                "mean",
                "total",
                "count",
                "number",
                "tally",
                "amount",
                "range",
                "product",
                "weight",
                "share",
                "length",
            ],
            strict=True,
        )
    )
]


@pytest.mark.parametrize(
    ("old", "new"), [("sold 9 loaves", "sold 12 loaves"), ("baker of Oslo", "miller of Oslo"), ("what was", "find")]
)
def test_beside_a_templated_set_a_changed_problem_is_still_near(old, new):
    training = {**templated(0, 300), **{f"s{i}": text for i, text in enumerate(STORIES)}}
    changed = {**templated(300, 420), "e": STORIES[0].replace(old, new)}
    (match,) = ProblemIndex(training).matches(changed)
    assert (match.evaluation_id, match.training_id, match.same) == ("e", "s0", False)


INSTRUCTION = 'Let\'s think step by step and output the final answer after "####".'


def test_an_instruction_around_every_problem_is_no_part_of_it():
    """As verl's own preparation of GSM8K puts them; the other set has none."""
    assert len(STORIES) > FEWEST
    # One of them ends without a stop.
    given = [text.rstrip("?") if i == 2 else text for i, text in enumerate(STORIES)]
    put = {f"t{i}": f"{text} {INSTRUCTION}" for i, text in enumerate(given)}
    bare = {"same": STORIES[3], "near": STORIES[4].replace("13", "31"), "other": boxes(0)}
    for training, evaluation in ((put, bare), (bare, put)):
        found = {(m.evaluation_id, m.training_id): m.same for m in ProblemIndex(training).matches(evaluation)}
        assert {frozenset(pair): same for pair, same in found.items()} == {
            frozenset(("same", "t3")): True,
            frozenset(("near", "t4")): False,
        }


def test_problems_that_share_nothing_but_a_long_instruction_are_not_near():
    long = " Please " + ", ".join(f"mind rule {word} of the list" for word in NAMES) + "."
    put = [text + long for text in STORIES]
    half = len(put) // 2
    found = ProblemIndex({f"t{i}": t for i, t in enumerate([*put[:half]] * 2)}).compare({"e": put[-1]})
    assert found.matches == []


def test_sentences_that_all_texts_share_are_taken_off():
    texts = [f"Solve this: {text} {INSTRUCTION}" for text in STORIES]
    assert without_instruction(texts) == STORIES
    # Fewer may be alike by chance, and a question may be a template's.
    assert without_instruction(texts[:3]) == texts[:3]
    asked = [f"There are {i} sheep. How many are left?" for i in range(20)]
    assert without_instruction(asked) == asked
    assert without_instruction(["Compute."] * 20) == ["Compute."] * 20


UNSPACED = {
    "Chinese": (
        "小明的果园里有12棵苹果树，每棵树上平均结了35个苹果，他把其中一半卖给了邻居，还剩下多少个苹果？",
        ("12棵", "15棵"),
        "一个水池每小时注入20升水，同时每小时漏掉5升，水池容积为300升，需要几小时才能注满？",
    ),
    "Japanese": (
        "花子さんは1冊120円のノートを5冊と、80円の鉛筆を3本買いました。全部でいくら払いましたか。",
        ("5冊", "7冊"),
        "長さ300メートルの列車が、1秒間に20メートルの速さで橋を渡るのに何秒かかりますか。",
    ),
    "Thai": (
        "แม่ค้ามีส้มอยู่ 12 กล่อง แต่ละกล่องมีส้ม 24 ผล ขายไปครึ่งหนึ่งของทั้งหมด เหลือส้มกี่ผล",
        ("24", "36"),
        "รถยนต์คันหนึ่งวิ่งด้วยความเร็ว 80 กิโลเมตรต่อชั่วโมง ใช้เวลาเดินทาง 3 ชั่วโมง ได้ระยะทางเท่าไร",
    ),
}


@pytest.mark.parametrize("language", UNSPACED)
def test_text_without_spaces(language):
    text, change, other = UNSPACED[language]
    index = ProblemIndex({"t": text, "u": "1 + 1"})
    found = index.matches({"same": text.replace(" ", ""), "near": text.replace(*change), "other": other})
    assert [(m.evaluation_id, m.same) for m in found] == [("same", True), ("near", False)]


def test_a_template_in_chinese():
    def text(i):
        return f"小明有{i}个盒子，每个盒子里有{i + 500}支铅笔。他把一半的铅笔送给了学校，最后还剩下多少支铅笔？"

    found = ProblemIndex(templated(0, 300, text)).compare(templated(300, 420, text))
    assert (found.matches, found.templated) == ([], 120)


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=6), WORDS)
def test_the_closest_is_that_of_comparing_all_pairs(training, problem):
    index = ProblemIndex({str(i): text for i, text in enumerate(training)})
    mine = shingles(problem)
    all_pairs = [len(mine & shingles(text)) / len(mine | shingles(text)) for text in training]
    found = index.matches({"e": problem}, near=0.01)
    if max(all_pairs) == 0:
        assert found == []
    else:
        assert found[0].similarity == pytest.approx(max(all_pairs))
