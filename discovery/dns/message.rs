//! Reads one answer of a server (pure): the records that were asked for, where to go on, or that there is nothing.

use hickory_resolver::net::NoRecords;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Longest chain of CNAMEs that is followed, in one answer and over several; BIND follows 11, Unbound 12.
pub(super) const MAX_CHAIN: usize = 12;

/// What an answer says about a name and a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// There are records.
    Records(Records),
    /// The name is another name for this one, about which the answer says nothing: ask for it.
    Elsewhere { name: Name, ttl: u32 },
    /// There is no such name, or it has no such record.
    Nothing {
        /// How long that holds, in seconds, where the answer says so.
        ttl: Option<u32>,
    },
}

/// Records of one type, and what came with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Records {
    /// What was asked for.
    pub(super) data: Vec<RData>,
    /// How long all of it holds, the chain that led there included, in seconds.
    pub(super) ttl: u32,
    /// Addresses of hosts that the server thought to be of use.
    pub(super) additional: Vec<Record>,
}

/// Reads an answer with records in it.
pub(super) fn read(message: &Message, asked: &Name, kind: RecordType) -> Result<Reading, String> {
    // Over TCP nobody has compared it yet.
    check_question(message.queries.first().map(|query| (query.name(), query.query_type())), asked, kind)?;
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(format!("it answers with the code {code}"));
    }
    let mut at = asked.clone();
    let mut ttl = u32::MAX;
    for _ in 0..=MAX_CHAIN {
        let found = message.answers.iter().filter(|record| record.name == at && record.record_type() == kind);
        let data: Vec<RData> = found.clone().map(|record| record.data.clone()).collect();
        if !data.is_empty() {
            let ttl = found.map(|record| record.ttl).fold(ttl, u32::min);
            return Ok(Reading::Records(Records { data, ttl, additional: message.additionals.clone() }));
        }
        // Records may be in any order, so each step looks through all of them.
        let next = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == at => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        match next {
            Some((name, its_ttl)) => (at, ttl) = (name, ttl.min(its_ttl)),
            None if at == *asked => return Err("its answer is about other names".to_owned()),
            None => return Ok(end_of_chain(message, code, at, ttl)),
        }
    }
    Err(format!("{asked} has a chain of more than {MAX_CHAIN} CNAMEs, or one that goes in a circle"))
}

/// A chain ended at a name without records of the type. A recursive server says why; one that only knows the zone of
/// the first name does not know.
fn end_of_chain(message: &Message, code: ResponseCode, name: Name, ttl: u32) -> Reading {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    if code == ResponseCode::NXDomain || soa.is_some() {
        return Reading::Nothing { ttl: Some(soa.map_or(ttl, |soa| soa.min(ttl))) };
    }
    Reading::Elsewhere { name, ttl }
}

/// Reads an answer without records.
pub(super) fn read_nothing(nothing: &NoRecords, asked: &Name, kind: RecordType) -> Result<Reading, String> {
    check_question(Some((nothing.query.name(), nothing.query.query_type())), asked, kind)?;
    // "Ask those over there" instead of an answer: the server does not look names up for others (RFC 2308, 2.2).
    if nothing.response_code == ResponseCode::NoError && nothing.soa.is_none() && nothing.ns.is_some() {
        return Err("it refers to other servers instead of asking them: it is not a resolver".to_owned());
    }
    Ok(Reading::Nothing { ttl: nothing.negative_ttl })
}

fn check_question(question: Option<(&Name, RecordType)>, asked: &Name, kind: RecordType) -> Result<(), String> {
    match question {
        Some((name, its_kind)) if name == asked && its_kind == kind => Ok(()),
        _ => Err("it answers a question that was not asked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_resolver::proto::op::{OpCode, Query};
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    fn cname(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let data = SOA::new(name("ns.x."), name("root.x."), 1, 2, 3, 4, minimum);
        Record::from_rdata(name("x."), ttl, RData::SOA(data))
    }

    fn message(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name("web.x."), RecordType::A));
        message.add_answers(answers);
        message.add_authorities(authorities);
        message
    }

    fn reading(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Result<Reading, String> {
        read(&message(code, answers, authorities), &name("web.x."), RecordType::A)
    }

    fn records(reading: Reading) -> (usize, u32) {
        match reading {
            Reading::Records(records) => (records.data.len(), records.ttl),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chain_in_any_order_is_followed_and_holds_as_long_as_its_shortest_part() {
        let answers = vec![a("c.x.", 30, 1), a("c.x.", 40, 2), cname("b.x.", 20, "c.x."), cname("WEB.x.", 50, "b.x.")];
        assert_eq!(records(reading(ResponseCode::NoError, answers, vec![]).unwrap()), (2, 20));
    }

    #[test]
    fn records_of_other_names_are_not_taken() {
        let answers = vec![a("web.x.", 30, 1), a("evil.x.", 1, 66)];
        assert_eq!(records(reading(ResponseCode::NoError, answers, vec![]).unwrap()), (1, 30));
        let foreign = reading(ResponseCode::NoError, vec![a("evil.x.", 1, 66)], vec![]);
        assert!(foreign.unwrap_err().contains("other names"));
    }

    #[test]
    fn a_chain_that_ends_without_a_word_is_asked_on() {
        let answers = vec![cname("web.x.", 50, "b.y.")];
        assert_eq!(
            reading(ResponseCode::NoError, answers, vec![]),
            Ok(Reading::Elsewhere { name: name("b.y."), ttl: 50 })
        );
    }

    #[test]
    fn a_chain_that_ends_at_a_name_without_records_is_nothing() {
        let answers = || vec![cname("web.x.", 50, "b.x.")];
        assert_eq!(
            reading(ResponseCode::NoError, answers(), vec![soa(60, 10)]),
            Ok(Reading::Nothing { ttl: Some(10) })
        );
        assert_eq!(reading(ResponseCode::NXDomain, answers(), vec![]), Ok(Reading::Nothing { ttl: Some(50) }));
    }

    #[test]
    fn a_chain_in_a_circle_is_an_error() {
        let answers = vec![cname("web.x.", 50, "b.x."), cname("b.x.", 50, "web.x.")];
        assert!(reading(ResponseCode::NoError, answers, vec![]).unwrap_err().contains("circle"));
    }

    #[test]
    fn an_answer_to_another_question_is_an_error() {
        let answer = message(ResponseCode::NoError, vec![a("web.x.", 1, 1)], vec![]);
        assert!(read(&answer, &name("web.x."), RecordType::AAAA).is_err());
        assert!(read(&answer, &name("db.x."), RecordType::A).is_err());
    }

    #[test]
    fn an_unknown_code_is_an_error_whatever_comes_with_it() {
        let answer = reading(ResponseCode::Unknown(3000), vec![a("web.x.", 1, 1)], vec![]);
        assert!(answer.unwrap_err().contains("code"));
    }

    #[test]
    fn a_referral_is_an_error_and_no_answer_that_nobody_is_there() {
        let query = Query::query(name("web.x."), RecordType::A);
        let mut nothing = NoRecords::new(query, ResponseCode::NoError);
        assert_eq!(read_nothing(&nothing, &name("web.x."), RecordType::A), Ok(Reading::Nothing { ttl: None }));
        nothing.ns = Some(Vec::new().into());
        assert!(read_nothing(&nothing, &name("web.x."), RecordType::A).unwrap_err().contains("not a resolver"));
    }
}
