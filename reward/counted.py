"""Words that may stand behind a number and leave it what it is: what is counted, of what kind, and counters.

Words that change a number (lakh, twelfths, below zero) have no end, nor have their languages; so a number is read
without the words behind it only where all of them are known, or plurals that look like English and are no amounts. The
nouns are those counted in the problems of GSM8K and MATH.
"""

# Letters of other scripts look alike.
# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections.abc import Callable


def _words(table: str) -> frozenset[str]:
    return frozenset(table.split())


_NOUNS = _words("""
accident acorn actor adult afternoon airplane album alien alligator angle animal answer ant antacid apartment app
appetizer apple application appointment aquarium arc area arm arrangement array arrest article asymptote athlete
attempt attendee avocado award axis baby backpack badge bag bagel baguette bale ball balloon banana band bandage
bank bar barrel baseball basket basketball bat batch bathroom battery beach bead beaker bean bear beaver bed bedroom
bee beetle belt bench berry bicycle bike bill bin binder bird birdhouse biscuit bit blanket block blouse blueberry
board boat bolt bone book bookcase bottle bounce bouquet bowl box boy bracelet branch brick bridge brochure brother
brownie bucket bug builder building bulb bun bunch bundle bunny burger burrito bus bush bushel business butterfly
button byte cage cake calculator call calorie camper can candidate candle candy cane canoe cap capsule captain car
card carnation carpet carriage carrot carton case castle cat category ceiling cell chair channel chaperone chapter
character check checkpoint cheerleader cheese cheesecake chef cherry chicken chihuahua child chip chocolate choice
chord chore circle citizen city clarinet class classmate classroom clerk client clip cloth cloud clover club cluster
coach coat cob coconut code coefficient coffee coin collector color coloring colouring column combination comic
committee company computer cone configuration consonant container contestant cookie cooler copy corner counter
country couple coupon course cousin cow crab cracker cranberry crate crayon credit cricket croissant crow cub cube
cuboid cucumber cupcake curve customer cycle daisy dance dandelion dap dart date daughter deck decoration delegate
delivery democrat desk dessert device diagonal diamond diaper diary digit dime dimension discount dish dive divisor
doctor doe dog doll dolphin domino donation donut door dose dot dough doughnut download drawing dress drink driveway
drum drummer dryer duck dumpling ear earring edge egg eggplant element elephant elf ellipse email employee emu
endpoint engine entree entry envelope episode equality equation eraser exam expression eye face factor fairy family
fan farm feather female fence fern field figure figurine file filling finger firework fish flag flashlight flavor
flea flight flip floor flower fly flyer folder follower fork fox fraction frame friend frog fruit fry function
furlong gadget game garden gate gecko gem gemstone gift giraffe girl glass glove gnome goal goat grade grader grain
grandparent grape graph grid grocery group guest guitar gumball gun guppy haircut hamburger hamster hand handshake
hat head heart hen hexagon highlighter hit hive hole home hop horse hose hospital hotdog house hyperbola inequality
ingredient inning insect installment instance instruction integer intercept intersection interval invitation iphone
island item jack jacket jar jay jean jellybean jersey jewel job jug juice jump junior kangaroo kernel key kid kilo
kind kindergartner king kitchen kitten kiwi lady ladybug lamb lamp lane lap laptop latte lawn layer leaf lecture leg
lego lemon lens lesson letter level lily line lion list lizard load loaf log lollipop lot lunch machine magazine
magnet male mango marble mark marker marshmallow mask match matchstick matrix meal meatball medal meeting melon
member message microphone milkshake mineral minnow mistake model monitor monkey moon mosquito motorcycle mountain
move movie muffin mug multiple mushroom musician nail napkin necklace neighbor neighborhood nephew newspaper nickel
niece night note notebook novel number nurse nut object office officer omelet onion option orange orchid order oreo
outcome outfit oyster pack package packet page pail painter painting pair palindrome pamphlet pan pancake panda
panel papaya paper paperclip parabola paragraph parakeet parent park parrot part participant partition partner party
pass passenger password pastry patch path patient pattern peach peanut pear pebble pen pencil penguin penny pepper
permutation person pet petal petunia phone photo photograph picture pie piece pig pigeon piglet pile pill pillow
pineapple pipe pistachio pizza place plan plane planet plank plant planter plate play player plum pod point polygon
polynomial poodle pool popsicle portion portrait position possibility post postcard poster pot potato pouch present
prime prize problem product project puff pump pumpkin pupil puppy push-up pushup puzzle pyramid quadrant
quadrilateral quadruple quarter question quiche quintuple rabbit raccoon racquet raisin raspberry rat rational ray
real ream reason recipe rectangle reflection region repair report representative republican request resident
response restaurant revolution rhino ribbon ride ring robot rock rodent roll room roommate rooster root rope rose
rotation round route row ruby rule run rung runner sack salad sale sample sandwich sapling sausage school scoop
screen screw seagull seashell season seat seatbelt section sector seed seedling segment selfie semester semicircle
senior sentence sequence serving session set shape share shark sheet shell shift shingle ship shirt shoe shop
shopper short shot sibling side sign signature singer sister sit-up situp size skater skip skirt sleeve slice
smartphone snack snail snake snowball snowflake sock soda soldier solution son song space spade sphere spider
spinner spoke spool spoon sport spot sprig square squat squirrel stack stair stalk stamp star state statement
station statue steak stem step stick sticker stitch stone stool stop store story strategy straw strawberry street
streetlight string strip stripe student subcommittee subject subsequence subset suit suitcase sum sundae sunflower
surfer sweater sweet switch symbol symmetry system tab table tablet tadpole tail tangent tank tarantula task tea
teacher teacup team television tent term test text textbook theorem thing thorn throw ticket tie tiger tile time tin
tip tire tissue toad toddler token tomato toothbrush toothpick topic topping toss touchdown tour tourist towel tower
town toy tractor train tray treat tree trial triangle trick tricycle trip triple triplet trophy truck trumpet tub
tube tulip tuna tuple turkey turn turtle twig type unicorn uniform utility vacation vaccine value vampire van vector
vegetable vehicle vertex vessel vest video vine visit vote wall walnut wand watermelon way website weed weekday
weight whale wheel whisker whiteboard whoosit widget win window wing wish wombat word workday worker worm yogurt
yolk zebra zero zone
""")
# Plurals that no rule makes, what has none, and a word that data sets leave behind an answer (145 solution:).
_PLURALS = _words("""
people children men women teeth feet geese mice oxen fish sheep deer shrimp trout salmon species series solution
homework lives goldfish jellyfish scarves elves grandchildren leaves loaves knives wolves shelves vertices
indices matrices axes hypotheses radii loci dice data äpfel euro stunden tage jahre schüler personen heures
jours personnes élèves horas días años personas
""")
_KINDS = _words("""
red orange yellow green blue purple pink brown black white gray grey gold silver golden wooden plastic glass paper
metal small medium large big little tall long wide deep high old new young full empty total extra additional
remaining left different distinct possible real positive negative nonnegative whole natural even odd prime composite
rational complex distinguishable identical congruent similar right acute obtuse isosceles equilateral regular unit
square cubic male female adult junior senior ordered unordered consecutive ice hot dog chocolate vanilla strawberry
apple birthday school baseball basketball football soccer tennis chess math science english french spanish history
music video phone lattice integer license pizza candy cookie tea water milk gummy jelly stuffed golf rubber trash
light individual unused favorable flour sugar rice sand paint bread butter oil salt corn wheat hay wood fabric gas
gasoline soup cream valid unique nonzero correct wrong incorrect nonempty three-digit two-digit four-digit
five-digit one-digit single-digit six-digit whole-number sterling us american canadian linear scalene
""")
# A plural of a noun that is not here, zorbs; not of a fraction (twelfths), and neither bus, basis nor less.
_REGULAR = re.compile(r"(?=[a-z]*[aeiouy])[a-z]{3,}(?<!s|u|i)(?<!th)s")
# Amounts, and words of calculation, that have its form.
_AMOUNTS = _words("""
tens dozens scores hundreds thousands lakhs crores myriads millions milliards billions trillions quadrillions halves
thirds cientos centenares millares docenas decenas centenas millones billones dizaines douzaines centaines milliers
dezenas milhares
percents permilles equals
""")
# Of these behind what is counted.
_BEHIND = _words("squared cubed old tall long wide deep high left remaining total sterling")
_BETWEEN = frozenset(("of", "per", "a", "an", "each", "the", "in"))
# Whole runs of letters of other scripts.
_COUNTERS = _words("""
次 回 元 円 圆 圓 角 分 个 個 人 名 位 只 隻 头 頭 条 條 张 張 辆 輛 种 種 本 枚 匹 冊 册 台 件 组 組 棵 块 塊
支 根 箱 盒 页 頁 颗 粒 间 家 所 句 道 题 題 场 場 岁 歳 年 月 日 天 周 小时 小時 時間 分钟 分鐘 秒 米 厘米 毫米
千米 分米 公里 平方米 平方厘米 平方千米 平方公里 立方米 立方厘米 克 千克 公斤 吨 噸 毫克 升 毫升 度 通り 個月
个月 人民币 美元 欧元 学生 个人 个学生 个苹果 种方法 種類 개 명 원 살 시간 일 년 마리 권 장 대 번 그루 자루 송이
가지 미터 킬로미터 센티미터 그램 킬로그램 리터 도 사람 학생 км м см мм дм кг г мг т л мл га ч час часа часов мин
минут минуты минута с сек секунд секунды день дня дней год года лет месяц месяца месяцев неделя недели недель
руб рубль рубля рублей копеек человек человека люди людей штук штуки шт яблоко яблока яблок раз раза способ
способа способов ученик ученика учеников задача задачи задач книга книги книг градус градуса градусов метр метра
метров километр километра километров сантиметров ευρώ ώρες λεπτά μέτρα रुपये मीटर किमी सेमी शेकेल שקלים דולר
متر كم سم كتاب طلاب
""")
# More of them are a sentence.
MAX_WORDS = 8
_WORD = re.compile(r"[^\W\d_][^\s/{}()^\d,;:\\]*")
_POWER = re.compile(r"\^\{-?\d\}")
_RATES = frozenset(("per", "a", "an"))
_POWERS = frozenset(("squared", "cubed", "sq", "cu"))


def counts(words: str, is_unit: Callable[[str], bool], *, of_one: bool = False) -> bool:
    """Whether words behind a number leave it what it is: units, or what is counted, and all of it known.

    Args:
        words: in any case; "/" and exponents between units are passed over.
        is_unit: whether a word is a unit.
        of_one: the number is 1, of which a singular is counted. Of other numbers it might be a fraction.
    """
    text = _POWER.sub(" ", words.lower().replace(".", "").replace("/", " per "))
    tokens = _WORD.findall(text)
    if len(tokens) > MAX_WORDS or re.search(r"[^\s{}]", _WORD.sub("", text)):
        return False
    if not all(_is_known(token) or is_unit(token) for token in tokens) or "per" in tokens[-1:]:
        return False
    head: list[str] = []
    for token in tokens:
        if token in _BETWEEN and (token != "in" or head):
            break
        head.append(token)
    if not head:
        return tokens == ["each"] or (len(tokens) > 1 and tokens[0] in _RATES)
    while len(head) > 1 and head[-1] in _BEHIND:
        head.pop()
    last = head[-1]
    return is_unit(last) or last in _COUNTERS or _is_plural(last) or (of_one and last in _NOUNS)


def _is_known(word: str) -> bool:
    return any(word in table for table in (_NOUNS, _KINDS, _BETWEEN, _COUNTERS, _POWERS)) or _is_plural(word)


def _is_plural(word: str) -> bool:
    if word in _PLURALS:
        return True
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    if any(word.endswith(end) and word.removesuffix(end) + of in _NOUNS for end, of in endings):
        return True
    return word not in _AMOUNTS and _REGULAR.fullmatch(word) is not None
