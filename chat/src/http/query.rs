//! Extractor of query parameters. A refusal names the parameter.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Query};
use proto::lenient::whole_text;

use crate::Error;

/// The decoded pairs of a query string, in their order. Parameters that no method asks for are ignored.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<(String, String)>);

impl FromRequest for Parameters {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string());
        let refused = |_| Error::BadRequest("the query string cannot be parsed".to_owned());
        ready(pairs.map(|Query(pairs)| Self(pairs)).map_err(refused))
    }
}

impl Parameters {
    /// The value of a parameter that has one value.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when the parameter is given several times.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(refusal(name, "is given several times")),
        }
    }

    /// The value of a parameter that is a non-negative integer.
    ///
    /// # Errors
    /// [`Error::BadRequest`] as [`Parameters::text`], and when the value is not such a number.
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>, Error> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => whole_text(text).map_err(|expected| refusal(name, &format!("must be {expected}"))),
        }
    }

    /// The elements of a list, in all forms in which HTTP clients encode lists: `name=a,b`, `name=a&name=b`, `name[]=a&name[]=b` and
    /// `name[0]=a&name[1]=b`. `None` when the parameter is absent.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let values: Vec<&String> =
            self.0.iter().filter(|(key, _)| is_list(key, name)).map(|(_, value)| value).collect();
        let elements = values.iter().flat_map(|value| value.split(',')).map(ToOwned::to_owned);
        (!values.is_empty()).then(|| elements.collect())
    }
}

/// Whether `key` is the list `name`, or an element of it.
fn is_list(key: &str, name: &str) -> bool {
    let Some(index) = key.strip_prefix(name) else { return false };
    let is_index = |index: &str| index.bytes().all(|digit| digit.is_ascii_digit());
    index.is_empty() || index.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_index)
}

fn refusal(name: &str, cause: &str) -> Error {
    Error::BadRequest(format!("the parameter {name} {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters(Query::<Vec<(String, String)>>::from_query(query).unwrap().into_inner())
    }

    #[test]
    fn lists_of_all_clients_have_the_same_elements() {
        for query in [
            "types=member,room",
            "types=member&types=room",
            "types[]=member&types[]=room",
            "types%5B%5D=member&types%5B%5D=room",
            "types[0]=member&types[1]=room",
            "types=member&other=1&types=room",
        ] {
            assert_eq!(parameters(query).list("types").unwrap(), ["member", "room"], "{query}");
        }
        for query in ["", "typesx=member", "types[a]=member", "xtypes=member", "types[=member"] {
            assert_eq!(parameters(query).list("types"), None, "{query}");
        }
        assert_eq!(parameters("types=").list("types").unwrap(), [""]);
    }

    #[test]
    fn a_refused_value_is_named() {
        for (query, words) in [
            ("rev=-1", "the parameter rev must be a whole number that is not negative"),
            ("since=1&rev=x", "the parameter rev must be a whole number that is not negative"),
            ("rev=1.5", "the parameter rev must be a whole number that is not negative"),
            ("rev=1&rev=2", "the parameter rev is given several times"),
        ] {
            let refused = parameters(query).number::<u64>("rev").unwrap_err();
            assert_eq!(refused, Error::BadRequest(words.to_owned()), "{query}");
        }
        for (query, number) in
            [("", None), ("rev=", None), ("rev=null", None), ("rev=3.0", Some(3)), ("x=-1", None)]
        {
            assert_eq!(parameters(query).number::<u64>("rev").unwrap(), number, "{query}");
        }
    }
}
