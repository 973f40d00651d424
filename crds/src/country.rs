//! Countries, and the two unions that policies name.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The officially assigned codes of ISO 3166-1 alpha-2
/// (<https://www.iso.org/iso-3166-country-codes.html>).
#[rustfmt::skip]
pub const COUNTRIES: [&str; 249] = [
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW",
    "AX", "AZ", "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN",
    "BO", "BQ", "BR", "BS", "BT", "BV", "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG",
    "CH", "CI", "CK", "CL", "CM", "CN", "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ",
    "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES", "ET", "FI",
    "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL",
    "GM", "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM", "HN", "HR",
    "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM",
    "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN", "KP", "KR", "KW", "KY", "KZ", "LA",
    "LB", "LC", "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME",
    "MF", "MG", "MH", "MK", "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU",
    "MV", "MW", "MX", "MY", "MZ", "NA", "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP",
    "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM", "PN", "PR",
    "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW", "SA", "SB", "SC", "SD",
    "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS", "ST", "SV",
    "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO",
    "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE",
    "VG", "VI", "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZM", "ZW",
];

/// Members of the European Union
/// (<https://european-union.europa.eu/principles-countries-history/eu-countries_en>).
#[rustfmt::skip]
pub const EU: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// States of the European Economic Area beyond the Union
/// (EEA Agreement; <https://www.efta.int/eea/eea-agreement>).
pub const EEA_BEYOND_EU: [&str; 3] = ["IS", "LI", "NO"];

/// Names of unions that stand for all their members in a policy.
pub const GROUPS: [&str; 2] = ["EU", "EEA"];

/// True for an officially assigned ISO 3166-1 alpha-2 code.
pub fn is_country(code: &str) -> bool {
    COUNTRIES.binary_search(&code).is_ok()
}

/// The countries that a code of a policy stands for: one country, or the
/// members of a union; empty when the code is neither.
pub fn expand(code: &str) -> Vec<&'static str> {
    match code {
        "EU" => EU.to_vec(),
        "EEA" => EU.iter().chain(&EEA_BEYOND_EU).copied().collect(),
        country => COUNTRIES
            .binary_search(&country)
            .map(|index| vec![COUNTRIES[index]])
            .unwrap_or_default(),
    }
}

/// The CEL rule that no country stands in `self.allowed` and, alone or as a
/// member of a union, in `self.forbidden`. A union that is allowed but for one
/// of its members is no contradiction.
pub fn disjoint_rule() -> String {
    let eu = quoted(&EU);
    let eea = format!("{eu},{},'EU'", quoted(&EEA_BEYOND_EU));
    format!(
        "!has(self.allowed) || !has(self.forbidden) || !self.allowed.exists(country, country in self.forbidden \
         || ('EU' in self.forbidden && country in [{eu}]) || ('EEA' in self.forbidden && country in [{eea}]))"
    )
}

fn quoted(codes: &[&str]) -> String {
    codes
        .iter()
        .map(|code| format!("'{code}'"))
        .collect::<Vec<_>>()
        .join(",")
}

/// A country: an officially assigned code of ISO 3166-1 alpha-2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Country(pub String);

/// A country (ISO 3166-1 alpha-2), or `EU` or `EEA` for all members of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CountryOrGroup(pub String);

impl JsonSchema for Country {
    fn schema_name() -> Cow<'static, str> {
        "Country".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        code_schema(
            "Country: an officially assigned code of ISO 3166-1 alpha-2.",
            &[],
            "must be a country code of ISO 3166-1 alpha-2 in capitals, such as FR or DE",
        )
    }
}

impl JsonSchema for CountryOrGroup {
    fn schema_name() -> Cow<'static, str> {
        "CountryOrGroup".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        code_schema(
            "Country (ISO 3166-1 alpha-2), or EU or EEA for all members of the union.",
            &GROUPS,
            "must be a country code of ISO 3166-1 alpha-2 in capitals, such as FR or DE, or EU or EEA",
        )
    }
}

/// A CEL rule rather than an `enum`: the refusal of an enum would print all
/// 249 codes and no remedy. The length is that of a country's name and not of
/// a code, for the same reason: a value too long never reaches the rule.
fn code_schema(description: &str, groups: &[&str], message: &str) -> Schema {
    let codes = quoted(&[&COUNTRIES, groups].concat());
    json_schema!({
        "type": "string",
        "description": description,
        "maxLength": 64,
        "x-kubernetes-validations": [{ "rule": format!("self in [{codes}]"), "message": message }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_consistent() {
        assert!(COUNTRIES.is_sorted());
        assert!(EU.iter().chain(&EEA_BEYOND_EU).all(|code| is_country(code)));
        assert!(GROUPS.iter().all(|group| !is_country(group)));
    }

    #[test]
    fn groups_expand_to_their_members() {
        assert_eq!(expand("EU").len(), 27);
        assert_eq!(expand("EEA").len(), 30);
        assert_eq!(expand("FR"), ["FR"]);
        assert!(expand("XX").is_empty());
        assert!(expand("fr").is_empty());
    }
}
