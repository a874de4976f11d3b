//! Records as zone files have them.

use hickory_proto::rr::{RData, Record};

/// A record in zone file format (RFC 1035 §5.1).
#[must_use]
pub fn record_text(record: &Record) -> String {
    let (name, ttl, class) = (&record.name, record.ttl, record.dns_class);
    format!("{name} {ttl} {class} {} {}", record.record_type(), rdata_text(&record.data))
}

/// The data of a record in zone file format, with quotes around strings.
#[must_use]
pub fn rdata_text(data: &RData) -> String {
    let parts: Vec<String> = match data {
        RData::TXT(txt) => txt.txt_data.iter().map(|text| quote(text)).collect(),
        RData::HINFO(hinfo) => vec![quote(&hinfo.cpu), quote(&hinfo.os)],
        // The library writes a comma after the last item of a list, RFC 9460 §2.1 does not.
        RData::HTTPS(https) => {
            let params = https.0.svc_params.iter();
            let params =
                params.map(|(key, value)| format!("{key}={}", value.to_string().trim_end_matches(',')));
            [https.0.svc_priority.to_string(), https.0.target_name.to_string()]
                .into_iter()
                .chain(params)
                .collect()
        }
        _ => return data.to_string(),
    };
    parts.join(" ")
}

fn quote(text: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for byte in text {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            other => quoted.push_str(&format!("\\{other:03}")),
        }
    }
    quoted + "\""
}
