//! The endpoint that returns the metadata of the lead fields.

use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Response, Result};
use crate::random::guid_for;
use crate::{FieldSpec, Options};

impl Handler<'_> {
    pub(crate) fn metadata(self) -> Result<Response> {
        let options = &self.tenant.options;
        let without_options = self.optional("excludeOptionSets") == Some("1");
        let only = self.optional("schemaName");
        let wanted = |field: &&FieldSpec| only.is_none_or(|name| field.schema_name == name);
        let fields = self.tenant.schema.fields().iter().filter(wanted);
        let rows: Vec<_> = fields.map(|field| row(field, options, without_options)).collect();
        Ok(Response::json(200, &rows))
    }
}

/// Returns a field as a row of the metadata. The mixture of strings, numbers and booleans is that of the documented
/// sample. Only the `RenderType` numbers of a phone and of a dropdown are documented.
fn row(field: &FieldSpec, options: &Options, without_options: bool) -> Value {
    let length = field.max_length.map(|length| length.to_string());
    let locked = matches!(field.schema_name.as_str(), "Phone" | "EmailAddress");
    let mut row = json!({
        "Entity": "1",
        "SchemaName": field.schema_name,
        "DisplayName": field.display_name,
        "DataType": field.data_type,
        "IsMandatory": field.mandatory || options.mandatory.contains(&field.schema_name),
        "MaxLength": length.as_deref().unwrap_or_default(),
        "RangeMin": "0",
        "Name": field.schema_name,
        "Description": field.display_name,
        "EntityAttributeId": guid_for(&field.schema_name),
        "EntityAttributeType": i32::from(!field.schema_name.starts_with("mx_")),
        "RenderType": render_type(&field.render_type),
        "RenderTypeTextValue": field.render_type,
        "IsVisible": true,
        "IsSearchable": true,
        "ShowInMailMerge": true,
        "AllowMultiple": false,
        "ShowInImport": !field.is_computed(),
        "ShowInQuickAdd": false,
        "ShowInQuickSearch": false,
        "CreatedOn": "/Date(1417453996000+0000)/",
        "ModifiedOn": "/Date(1457006650000+0000)/",
        "OwnerIdName": "System",
        "IsLeadIdentifier": options.unique.contains(&field.schema_name),
        "LockAfterCreate": i32::from(locked),
        "UseInLeadClone": false,
        "IsSortable": true,
    });
    if field.is_dropdown() && !without_options {
        row["DefaultValue"] = Value::Null;
        row["Options"] = field
            .options
            .iter()
            .map(|value| {
                if options.options_as_strings {
                    json!(value)
                } else {
                    json!({"Value": value})
                }
            })
            .collect();
    }
    row
}

fn render_type(name: &str) -> u8 {
    match name {
        "Textbox" => 1,
        "TextArea" => 2,
        "Email" => 5,
        "Phone" => 6,
        "URL" => 7,
        "Date" => 8,
        "DateTime" => 9,
        "CheckBox" => 12,
        "Dropdown" => 13,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;

    #[tokio::test]
    async fn metadata_has_the_documented_json_types() {
        let server = TestServer::new(|_| {});
        let (_, all) = server.get("LeadsMetaData.Get").await;
        assert!(all.as_array().unwrap().len() > 60);
        let (_, phone) = server.get("LeadsMetaData.Get?schemaName=Phone").await;
        assert_eq!(phone.as_array().unwrap().len(), 1);
        let phone = &phone[0];
        assert_eq!(phone["DataType"], "Phone");
        assert!(phone["MaxLength"].is_string() && phone["LockAfterCreate"].is_i64());
        assert_eq!(phone["IsLeadIdentifier"], true);
        assert!(phone.get("Options").is_none());
        assert_eq!(server.get("LeadsMetaData.Get?schemaName=Nonsense").await.1, json!([]));
    }

    #[tokio::test]
    async fn dropdown_options_are_objects_strings_or_absent() {
        let server = TestServer::new(|_| {});
        let segment = async |query: &str| {
            let (_, found) = server
                .get(&format!("LeadsMetaData.Get?schemaName=mx_Segment{query}"))
                .await;
            found[0].get("Options").map(|options| options[0].clone())
        };
        assert_eq!(segment("").await, Some(json!({"Value": "Retail"})));
        assert_eq!(segment("&excludeOptionSets=1").await, None);
        server
            .simulator
            .set_options(|options| options.options_as_strings = true);
        assert_eq!(segment("").await, Some(json!("Retail")));
        assert!(
            server.get("LeadsMetaData.Get?schemaName=mx_KYC").await.1[0]
                .get("Options")
                .is_none()
        );
    }
}
