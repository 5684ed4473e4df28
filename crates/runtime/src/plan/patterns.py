"""What text looks like that is read as a date, a number, bytes: regular expressions for schemas.

Compiled into the runtime, never looked for on disk. They say what the reader in Rust takes, in what
ECMA, Python and Rust understand alike: no `\\d`, which has more digits in Python.
"""

# Days that there are: the 29th of February in leap years only, no year 0.
DAY = (
    "(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
HOUR = "(?:[01][0-9]|2[0-3])"
SIXTY = "[0-5][0-9]"
OFFSET = f"(?:[Zz]|[+-]{HOUR}:{SIXTY})?"
DATE = f"^{DAY}$"
TIME = f"^{HOUR}:{SIXTY}(?::{SIXTY}(?:\\.[0-9]+)?)?{OFFSET}$"
DATETIME = f"^{DAY}[Tt]{HOUR}:{SIXTY}:{SIXTY}(?:\\.[0-9]+)?{OFFSET}$"

SECONDS = "[0-9]{1,12}(?:\\.[0-9]+)?S"
MINUTES = f"[0-9]{{1,11}}M(?:{SECONDS})?"
# As many digits as are always within what a `timedelta` holds; a clock goes with more days.
CLOCK = f"(?:[0-9]{{1,9}}H(?:{MINUTES}|{SECONDS})?|{MINUTES}|{SECONDS})"
SHORT = "(?:[0-5]?[0-9]\\.[0-9]+|[0-5]?[0-9])S"
SHORTER = f"(?:(?:2[0-3]|1?[0-9])H)?(?:[0-5]?[0-9]M)?(?:{SHORT})?"
DURATION = (
    f"^-?P(?:[0-9]{{1,7}}W|[0-9]{{1,9}}D|(?:[0-9]{{1,8}}D)?T{CLOCK}"
    f"|[0-9]{{9}}DT(?=[0-9]){SHORTER})$"
)

DECIMAL = "^-?[0-9]+(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?$"
# Those from 0 on, above 0, and their opposites. A minus before nothing but zeros says nothing.
ZERO = "0+(?:\\.0+)?"
DIGITS = "[0-9]+(?:\\.[0-9]+)?"
NONZERO = "(?:0*[1-9][0-9]*(?:\\.[0-9]+)?|0+\\.0*[1-9][0-9]*)"
EXPONENT = "(?:[eE][+-]?[0-9]{1,6})?"
DECIMAL_SIGNS = {
    "minimum": f"^(?:{DIGITS}|-{ZERO}){EXPONENT}$",
    "exclusiveMinimum": f"^{NONZERO}{EXPONENT}$",
    "maximum": f"^(?:-{DIGITS}|{ZERO}){EXPONENT}$",
    "exclusiveMaximum": f"^-{NONZERO}{EXPONENT}$",
}

UUID = "^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"
QUAD = "[A-Za-z0-9+/]{4}"
# What is left after quads, by the bytes in it.
TAILS = ("", "[A-Za-z0-9+/]{2}==", "[A-Za-z0-9+/]{3}=")
BASE64 = f"^(?:{QUAD})*(?:{TAILS[1]}|{TAILS[2]})?$"

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = f"^(?:{OCTET}\\.){{3}}{OCTET}$"
IPV4_WITH_NETWORK = f"^(?:{OCTET}\\.){{3}}{OCTET}(?:/(?:3[0-2]|[12]?[0-9]))?$"

# Keys of objects, which are text.
INT_TEXT = "^-?(?:0|[1-9][0-9]*)$"
FLOAT_TEXT = "^(?:-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?|nan|-?inf)$"
# The same as it is written.
FLOAT_KEY = "^-?(?:[0-9]+(?:\\.[0-9]+)?(?:e[+-]?[0-9]+)?|Infinity)$|^NaN$"


def base64_of(least, most):
    """The pattern for the base64 of so many bytes; `most` may be `None`."""
    parts = []
    for left, tail in enumerate(TAILS):
        low = max(0, -((left - least) // 3))
        high = "" if most is None else (most - left) // 3
        if most is None or low <= high:
            parts.append(f"(?:{QUAD}){{{low},{high}}}{tail}")
    return f"^(?:{'|'.join(parts)})$"
