import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.addresses import checksum_address

_EXAMPLES = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
]


@pytest.mark.parametrize("address", _EXAMPLES)
def test_the_examples_of_eip_55_hold_from_every_case(address: str) -> None:
    assert checksum_address(address) == address
    assert checksum_address(address.lower()) == address
    assert checksum_address("0x" + address[2:].upper()) == address
    assert checksum_address(f" {address}\n") == address


def test_a_wrong_checksum_is_refused_as_a_typing_mistake() -> None:
    with pytest.raises(ValueError, match="mistyped"):
        checksum_address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        _EXAMPLES[0][2:],
        _EXAMPLES[0][:-1],
        f"{_EXAMPLES[0]}1",
        "0x" + "g" * 40,
        "0xB71c...",
    ],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="40 hexadecimal"):
        checksum_address(text)


@given(st.binary(min_size=20, max_size=20))
def test_the_checksum_form_is_a_fixed_point(raw: bytes) -> None:
    address = checksum_address(f"0x{raw.hex()}")
    assert checksum_address(address) == address
    assert address.lower() == f"0x{raw.hex()}"
