//! The manual of currencies.

use std::cmp::Ordering;

use super::*;

/// Every three-letter code that is accepted, by its digits. Rows keep minor units: a line that changes here is a migration.
const SCALES: [(u32, &str); 5] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF \
         CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL \
         HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
         MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG \
         SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES \
         WST XAD XCD XCG YER ZAR ZMW ZWG ZWL",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
    (7, "XLM"),
];

fn check(code: &str, expected: &str) {
    let got = Currency::parse(code)
        .map_or_else(|fault| fault.to_string(), |currency| format!("{currency}, {} digits", currency.scale()));
    assert_eq!(got, expected, "{code:?}");
}

#[test]
fn a_currency_has_a_code_and_a_number_of_digits() {
    check("USDC", "USDC, 7 digits");
    check("EURC", "EURC, 7 digits");
    check("XLM", "XLM, 7 digits");
    check("USD", "USD, 2 digits");
    check("EUR", "EUR, 2 digits");
    check("JPY", "JPY, 0 digits");
    check("KWD", "KWD, 3 digits");
    check("CLF", "CLF, 4 digits");
}

#[test]
fn no_currency_in_a_request_means_usdc() {
    check("", "USDC, 7 digits");
}

#[test]
fn what_has_no_minor_unit_or_is_spelt_otherwise_is_not_a_currency() {
    let refused = [
        "XXX",
        "XTS",
        "XAU",
        "XAG",
        "XPT",
        "XPD",
        "XDR",
        "XSU",
        "XUA",
        "XBA",
        "usd",
        "Usd",
        "usdc",
        "xlm",
        " ",
        " USD",
        "USD ",
        "US",
        "USDT",
        "BTC",
        "DEM",
        "840",
        "$",
        "€",
        "USD\0",
        "ＵＳＤ",
    ];
    for code in refused {
        check(code, "is not a currency: an ISO 4217 code, USDC, EURC or XLM");
    }
}

#[test]
fn no_currency_ever_changes_its_digits_or_disappears() {
    let letters = || 'A'..='Z';
    let codes =
        letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))));
    let mut accepted = SCALES.map(|(scale, _)| (scale, Vec::new()));
    for currency in codes.filter_map(|code| Currency::parse(&code).ok()) {
        let (_, of_scale) = accepted
            .iter_mut()
            .find(|(scale, _)| *scale == currency.scale())
            .unwrap_or_else(|| panic!("{currency} has {} digits, as none has had so far", currency.scale()));
        of_scale.push(currency.code());
    }
    assert_eq!(
        accepted.map(|(scale, codes)| (scale, codes.join(" "))),
        SCALES.map(|(scale, codes)| (scale, codes.to_owned()))
    );
}

#[test]
fn currencies_are_ordered_by_code() {
    let of = |code| Currency::parse(code).unwrap();
    // iso_currency itself has XCG between AMD and AOA.
    assert_eq!(of("XCG").cmp(&of("AOA")), Ordering::Greater);
    assert_eq!(of("USD").cmp(&of("USDC")), Ordering::Less);
    assert_eq!(of("USDC").cmp(&Currency::USDC), Ordering::Equal);
}

#[test]
fn as_json_it_is_its_code() {
    assert_eq!(serde_json::to_string(&Currency::EURC).unwrap(), r#""EURC""#);
    assert_eq!(serde_json::from_str::<Currency>(r#""KWD""#).unwrap().scale(), 3);
}

#[test]
fn in_json_no_currency_means_damage() {
    let fault = serde_json::from_str::<Currency>(r#""""#).unwrap_err().to_string();
    assert!(fault.starts_with("currency is not a currency: an ISO 4217 code, USDC, EURC or XLM"), "{fault}");
}
