"""The rules of docs/scorer.md, one case each, in both directions: ground truth and answer are treated alike."""

from __future__ import annotations

import pytest

from fpa_verl.reward.math_answer import check_ground_truth, compute_score, judge

SAME = [
    # numbers
    ("007", "7"),
    ("+3", "3"),
    ("3.0", "3"),
    (".5", r"\frac12"),
    ("0.50", "1/2"),
    (r"0.\overline{3}", r"\frac13"),
    (r"0.1\overline{6}", r"\frac16"),
    (r"-\frac{3}{4}", r"\frac{-3}{4}"),
    (r"\frac{6}{8}", r"\frac{3}{4}"),
    ("6.02 \\times 10^{3}", "6020"),
    ("2^{10}", "1024"),
    ("5!", "120"),
    (r"\mathbf{2340}", "2340"),
    (r"\mbox{four}", "4"),
    # thousands
    ("1,000", "1000"),
    (r"54,\!000", "54000"),
    ("5{,}000{,}000", "5000000"),
    (r"10\,000", "10000"),
    ("10 000", "10000"),
    # mixed numbers and spelling of fractions and roots
    (r"2\frac58", r"\frac{21}{8}"),
    ("2 5/8", "2.625"),
    (r"-15\frac{3}{5}", "-15.6"),
    (r"\frac\pi 2", r"\frac{\pi}{2}"),
    (r"\frac 9{20}", "0.45"),
    (r"\tfrac{8\pi}5", r"\dfrac{8}{5}\pi"),
    (r"4\sqrt3", r"\sqrt{48}"),
    (r"\frac{1}{\sqrt2}", r"\frac{\sqrt{2}}{2}"),
    (r"\sqrt[3]{8}", "2"),
    (r"11\sqrt{3}/2", r"\frac{11 \sqrt 3}{2}"),
    (r"(\sqrt{3}-1)5", r"5\sqrt{3}-5"),
    # percent, currency, units, degrees
    (r"50\%", "50"),
    (r"50\%", "0.5"),
    (r"50\%", r"50 \text{ percent}"),
    (r"\$32,\!348", "32348"),
    (r"\$18.90", r"\$18.90 \text{ per hour}"),
    (r"\$18.90", r"18.90 \text{ dollars}"),
    (r"5\text{ cm}", "5"),
    ("5 cm", r"5\,\mathrm{cm}"),
    (r"20 \text{ sq units}", r"20\text{ units}^2"),
    (r"440\text{ cm}^2", "440 square centimeters"),
    (r"144 \mbox{ m}^3", "144"),
    (r"14 \text{ right triangles}", "14"),
    ("14 right triangles", "14"),
    (r"60\text{ miles per hour}", "60 miles/hour"),
    (r"45^\circ", "45"),
    (r"45^{\circ}", r"45 \text{ degrees}"),
    ("45°", r"45^\circ"),
    (r"9\text{ min}", "9"),
    # text
    (r"\text{Sunday}", "sunday"),
    (r"\text{east}", "east"),
    (r"\overline{CD}", "CD"),
    (r"\angle ABC", r"\angle{ABC}"),
    (r"\text{June 20}", "June 20"),
    (r"\text{(C)}", "C"),
    ("(C)", r"\textbf{C}"),
    (r"\textbf{(C)}\ 12", "C"),
    (r"\text{(C) } 12", r"\text{C}"),
    (r"\text{C: increasing}", "C"),
    (r"\text{The answer is } 5", "5"),
    ("C. 12", "C"),
    (r"\text{A, D, F}", "D, A, F"),
    # bases
    ("2516_8", r"2516_{8}"),
    ("2516_8", r"2516_{\text{eight}}"),
    ("2516_8", "2516"),
    (r"\text{A5}_{11}", "A5_{11}"),
    ("152A_{11}", r"(152A)_{11}"),
    # intervals, tuples, sets, lists, unions
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
    ("(1,-2)", "1, -2"),
    ("2, 3", "3,2"),
    (r"\{1, 2, 3\}", r"\{3,2,1\}"),
    (r"\{1, 2\}", "2, 1"),
    (r"3 \pm 2\sqrt2", r"3-2\sqrt{2}, 3+2\sqrt{2}"),
    (r"x = \pm 2", "-2, 2"),
    (r"-12 \text{ or } -30", "-30, -12"),
    ("0 or 4", "4, 0"),
    ("x=1, x=2", "1,2"),
    ("[0,1)", r"0 \le x < 1"),
    ("[0,1)", r"\{x \mid 0 \le x < 1\}"),
    ("[0,1)", r"1 > x \geq 0"),
    (r"x \in [0,1)", "[0, 1)"),
    (r"(3, \infty)", "x > 3"),
    (r"(-\infty, 2)", r"(-\infty,2)"),
    (r"[2, +\infty)", r"[2,\infty)"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"(-1,1) \cup [3,\infty)", r"[3, \infty) \cup (-1, 1)"),
    (r"x \neq 2", r"(-\infty,2) \cup (2,\infty)"),
    (r"\mathbb{R} \setminus \{2\}", r"(-\infty,2) \cup (2,\infty)"),
    (r"x < 1 \text{ or } x > 3", r"(-\infty,1) \cup (3,\infty)"),
    (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", "x = 1, y = 2"),
    (r"\emptyset", r"\{\}"),
    (r"(x,y) = (1,2)", "(1,2)"),
    # matrices
    (r"\begin{pmatrix} 1/2 & 0 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 0.5 & 0 \\ 3 & 4 \end{bmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\langle 1, 2 \rangle"),
    (r"\begin{pmatrix} 1 & \phantom -1 \end{pmatrix}", r"\begin{pmatrix} 1 & 1 \end{pmatrix}"),
    # times and ratios
    (r"\text{4:30 p.m.}", "4:30 PM"),
    ("4:30", r"4:30\text{ pm}"),
    ("16:30", r"4:30\text{ pm}"),
    ("1 : 2", "1:2"),
    ("3:2", r"\frac{3}{2}"),
    # formulas
    ("x=5", "5"),
    ("5 = x", "5"),
    ("2^{10} = 1024", "1024"),
    (r"\binom{10}{3}", "120"),
    ("1,234.50", "1234.5"),
    (r"\color{red}{5}", "5"),
    ("x = 2, y = 3", "(2,3)"),
    ("y = 2x+3", "2x + 3"),
    ("y = 2x+3", "2x - y + 3 = 0"),
    ("f(x)=x^2+2x+1", "(x+1)^2"),
    ("x^2 + y^2 = 13", "y^2+x^2=13"),
    ("f(2) < f(1) < f(4)", "f(4) > f(1) > f(2)"),
    ("3+4i", "4i+3"),
    (r"\frac{1}{5} i", r"\frac{i}{5}"),
    ("(1+i)^2", "2i"),
    (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
    (r"e^{i\pi/2}", "i"),
    (r"x \equiv 3 \pmod{5}", "3"),
    (r"3 \pmod 5", r"3 \bmod 5"),
    (r"\frac12\sin 2A", r"\sin A\cos A"),
    (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
    (r"\ln 4", r"2\ln 2"),
    (r"2\sin x\cos x", r"\sin 2x"),
    (r"\cos 60^\circ", r"\frac12"),
    (r"\log_2 8", "3"),
    (r"e^{2}", "e^2"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor \sqrt{n - 1} \rfloor"),
    (r"2\sqrt{3} \approx 3.46", r"2\sqrt{3}"),
    # values of functions
    ("f(2) = 5", "5"),
    ("f(-1)=5", "5"),
    ("C(5,2)=10", "10"),
    ("f(f(2)) = 5", "5"),
    (r"f\left(\frac12\right) = 5", "5"),
    ("g'(2) = 5", "5"),
    (r"P(X = 2) = \frac14", "0.25"),
    ("f^{-1}(x) = x^2+1", "x^2+1"),
    ("AB^2 = 5", "5"),
    ("|AB| = 5", "5"),
    # sentence around it
    ("7.", "7"),
    ("$7$", "7"),
    (r"\(7\)", "7"),
    (r"\displaystyle 7", "7"),
    (r"\,7\,", "7"),
]

DIFFERENT = [
    ("144", "143"),
    ("3.14159", "3.14160"),
    ("0.0000001", "0.0000002"),
    ("1000000.0000001", "1000000"),
    (r"\sqrt2", "1.414"),
    (r"\sqrt{2}", "1.41421356237309504880168872421"),
    (r"\frac13", "0.333333"),
    (r"\pi", "3.14159265358979"),
    (r"\pi", r"\frac{22}{7}"),
    (r"10^{-20}\sqrt{2}", r"2\cdot 10^{-20}\sqrt{2}"),
    ("2516_8", "2516_9"),
    ("2516_8", "2517_8"),
    (r"\text{A5}_{11}", r"\text{A5}_{15}"),
    ("10_2", "2_{10}"),
    (r"50\%", r"50\text{ meters}"),
    (r"50\%", "5"),
    (r"50\%", r"0.5\%"),
    ("0.5", "50"),
    (r"5\text{ cm}", r"5\text{ m}"),
    (r"5\text{ cm}", r"5\text{ cm}^2"),
    (r"80\text{ cents}", r"\$80"),
    ("5m", "5"),
    ("5x", "5"),
    ("2 3", "23"),
    ("(3,4)", "(4,3)"),
    ("(1,2,3)", "(1,3,2)"),
    ("(1,2)", "(1,2]"),
    ("[1,2]", "(1,2)"),
    ("[1,2]", "1,2"),
    ("(1,2)", r"\{1,2\}"),
    (r"\{1,2\}", r"\{1,3\}"),
    ("1,2", "1,2,3"),
    ("1,1,2", "1,2,2"),
    ("2", "2, 3"),
    ("x > 3", r"x \geq 3"),
    ("x > 3", "x < 3"),
    ("x > 3", "y > 3"),
    ("f(2) < f(1) < f(4)", "f(1) < f(2) < f(4)"),
    ("x=1", "y=1"),
    ("x=1,y=2", "x=2,y=1"),
    ("A", "B"),
    ("a", "A"),
    (r"\text{even}", r"\text{odd}"),
    ("LQSX", "LSQX"),
    (r"\overline{CD}", r"\overline{CE}"),
    (r"\text{June 20}", r"\text{June 21}"),
    (r"4:30\text{ am}", r"4:30\text{ pm}"),
    ("1:00", "2:00"),
    ("1:2", "2:1"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(2,1)"),
    ("y = 2x+3", "y = 2x+4"),
    ("y = 2x+3", "3"),
    ("x^2+y^2=13", "13"),
    ("x+1", "y+1"),
    (r"|x|", "x"),
    ("2i", "2"),
    ("3+4i", "3-4i"),
    (r"\sin A", r"\sin a"),
    (r"\log N", r"\log n"),
    (r"\log F", r"\log f"),
    (r"3 \pmod 5", r"3 \pmod 7"),
    (r"\sin x", r"\cos x"),
    (r"\infty", r"-\infty"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor\sqrt{n-2}\rfloor"),
    (r"5 \approx 6", "6"),
    (r"x \neq 2", "x = 2"),
    (r"x \neq 2", r"x \neq 3"),
    (r"\emptyset", "0"),
    ("2x = 10", "5"),
    ("x(x+1) = 6", "6"),
    ("2f(2) = 5", "5"),
    ("f(2)+1 = 5", "5"),
    ("f(2) = 5", "6"),
    ("f(2) = 5", "f(3) = 5"),
    ("f(x+1) = x^2", "x^2"),
    ("f^{-1}(x) = x^2", "f(x) = x^2"),
    ("C(n,2) = 10", "10"),
    ("x^2 = 5", "5"),
]


@pytest.mark.parametrize(("answer", "gold"), [*SAME, *[pair[::-1] for pair in SAME]])
def test_same(answer, gold):
    assert judge(answer, gold) == "right"


@pytest.mark.parametrize(("answer", "gold"), [*DIFFERENT, *[pair[::-1] for pair in DIFFERENT]])
def test_different(answer, gold):
    assert judge(answer, gold) == "wrong"


@pytest.mark.parametrize(
    "answer",
    [
        r"\text{not } 5",
        r"\text{5 or perhaps } 6",
        "5 and 6",
        "145solution",
        r"\frac{5}{",
        "{5",
        "(" * 100 + "5",
        "5" + "°" * 1900,
    ],
)
def test_an_answer_that_cannot_be_read_as_the_ground_truth_is_wrong(answer):
    assert judge(answer, "5") == "wrong"


@pytest.mark.parametrize("gold", sorted({text for pair in [*SAME, *DIFFERENT] for text in pair}))
def test_every_one_of_them_grades_itself_right(gold):
    assert check_ground_truth(gold) == "right"
    assert judge(gold, gold) == "right"


@pytest.mark.parametrize(
    "gold",
    [
        "",
        "  ",
        "$$",
        r"\{x|x=3k,k\in \mathbb{Z}\}",
        "145solution:",
        r"\frac{1}{",
        "f(x)=ax+b, where b is an arbitrary integer",
        "(" * 100,
    ],
)
def test_a_ground_truth_that_cannot_be_read_is_bad_whatever_is_answered(gold):
    statuses = {compute_score("", text, gold)["status"] for text in (rf"\boxed{{{gold}}}", r"\boxed{1}", "no box")}
    assert statuses == {"bad_ground_truth"}


@pytest.mark.parametrize(
    ("response", "gold", "status"),
    [
        (r"\boxed{1} and \boxed{2}", "1, 2", "right"),
        (r"\boxed{1}, \boxed{2} and $\boxed{3}$.", "3, 2, 1", "right"),
        (r"x = \boxed{1} is too small, so \boxed{2}", "1, 2", "wrong"),
        # The ground truth is one number: the last box is the answer.
        (r"\boxed{1} and \boxed{2}", "2", "right"),
        (r"\boxed{1} or \boxed{2}", "1", "wrong"),
        # The last box was cut off.
        (r"\boxed{7} so \boxed{\frac{1}{", "7", "right"),
        (r"\boxed{\frac{1}{", "7", "no_answer"),
        (r"\boxed{}", "7", "wrong"),
        (r"\boxed 7", "7", "right"),
        (r"\boxed{\boxed{7}}", "7", "right"),
        (r"\boxed{(1,2) \text{ and } (3,4)}", "(3,4), (1,2)", "right"),
    ],
)
def test_which_box_counts(response, gold, status):
    assert compute_score("", response, gold)["status"] == status
