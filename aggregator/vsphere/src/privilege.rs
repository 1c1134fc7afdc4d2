//! What the present session may do.

use std::collections::BTreeMap;

use crate::{
    client::Client,
    error::Error,
    xml::{Element, Moref},
};

impl Client {
    /// Whether the present session has each of some privileges on an object. One that the answer
    /// does not name is not in the result.
    ///
    /// # Errors
    ///
    /// See [`Error`]; `MethodNotFound` from servers before 5.5 and from some that only resemble one.
    pub async fn privileges(
        &self,
        of: &Moref,
        privileges: &[&str],
    ) -> Result<BTreeMap<String, bool>, Error> {
        let session = self.session().await?;
        let manager = session.content.object("authorizationManager")?;
        let arguments =
            [Element::reference("entity", of), Element::text("sessionId", &session.key)]
                .into_iter()
                .chain(privileges.iter().map(|privilege| Element::text("privId", privilege)));
        // In that session alone: its key is one of the arguments.
        let asked = self.call_in(&session, "HasPrivilegeOnEntities", &manager, arguments.collect());
        Ok(granted(&asked.await?, of))
    }
}

/// What an answer says of one object.
fn granted(answer: &Element, of: &Moref) -> BTreeMap<String, bool> {
    let of_it = answer.all("returnval").filter(|told| {
        told.child("entity").and_then(Element::moref).is_some_and(|entity| entity == *of)
    });
    let one =
        |told: &Element| Some((told.text_at("privId")?.to_owned(), told.is_true_at("isGranted")));
    of_it.flat_map(|told| told.all("privAvailability").filter_map(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_to_be_granted_on_the_object_is() {
        let answer = Element::parse(
            "<r><returnval><entity type='Folder'>group-d1</entity>\
             <privAvailability><privId>A</privId><isGranted>true</isGranted></privAvailability>\
             <privAvailability><privId>B</privId><isGranted>false</isGranted></privAvailability>\
             <privAvailability><privId>C</privId></privAvailability></returnval>\
             <returnval><entity type='Folder'>group-d2</entity>\
             <privAvailability><privId>D</privId><isGranted>true</isGranted></privAvailability>\
             </returnval></r>",
        )
        .unwrap();

        let told = granted(&answer, &Moref::new("Folder", "group-d1"));

        let expected = [("A", true), ("B", false), ("C", false)];
        assert_eq!(told, expected.map(|(name, is)| (name.to_owned(), is)).into());
    }
}
