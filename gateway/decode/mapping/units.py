"""Units that `numbers = "from_text"` cuts off: those of measuring instruments, as they are written. Pure."""

from __future__ import annotations

from typing import Final

_OF_PREFIXES: Final = {
    "V": "m k",
    "A": "µ m k",
    "W": "m k M G",
    "Wh": "m k M G",
    "VA": "k M",
    "VAh": "k",
    "var": "k M",
    "varh": "k",
    "J": "k M G",
    "Hz": "k M G",
    "Pa": "h k M",
    "bar": "m",
    "m": "µ m c d k",
    "s": "n µ m",
    "g": "µ m k",
    "l": "m c d h",
    "L": "m",
    "N": "k",
    "Nm": "m k",
    "Ω": "m k M",
    "S": "µ m",
    "B": "k K M G",
    "lx": "k",
}
"""Unit → prefixes that it is written with."""

_OTHERS: Final = """
    % ‰ ° °C °F °K K C F degC degF °dH %RH %rH %rF %r.F. RH rH
    VAC Vac VDC Vdc VAr kVAr VArh kVArh
    m2 m² m3 m³ cm3 cm³ in ft mi yd
    m/s km/h mph kn kt mm/s mm/h
    l/s l/min l/h L/min L/h m3/h m³/h m3/s m³/s
    t lb oz g/l g/L mg/l mg/L g/m3 g/m³ mg/m3 mg/m³ µg/m3 µg/m³ kg/h kg/m3 kg/m³
    W/m2 W/m² kWh/m2 kWh/m² J/m2 J/m² lm lux cd
    V/m A/m µS/cm mS/cm S/m Vpp Vrms Ah mAh T mT µT
    ug/m3 ug/m³ uS/cm us sec g/kg mol/l lpm gpm gal Nm³ Nm³/h Nm3/h ft³ ft³/h °/s Bft
    ppm ppb ppt PSU pH NTU psi atm mmHg inHg mmH2O Torr
    dB dBm dBA dB(A) dBi
    min h d rpm 1/min U/min 1/s /min
    Ohm ohm kOhm cal kcal
    bit/s kbit/s Mbit/s B/s kB/s MB/s bps
"""

UNITS: Final = frozenset(
    {prefix + unit for unit, prefixes in _OF_PREFIXES.items() for prefix in ("", *prefixes.split())}
    | set(_OTHERS.split())
)


def is_unit(text: str) -> bool:
    """Whether a text is one of them; micro, ohm and degrees may be written by either of their two signs."""
    return text.replace("\u03bc", "\u00b5").replace("\u2126", "\u03a9").replace("\u00ba", "\u00b0") in UNITS
