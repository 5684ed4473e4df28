use std::sync::Arc;

use exuvia_core::{Failure, Target};

use super::{Fake, PETSTORE, asking, call, fake, handler, read, refused, route};

#[test]
fn an_operation_leads_to_the_handler_called_like_it() {
    for (target, params, name) in [
        ("shop:list_pets", &["limit", "tags", "near", "alive", "x_tenant"][..], "GET /v2/pets"),
        ("shop:getPet", &["petId"], "GET /v2/pets/{petId}"),
        ("shop:get_pet", &["pet_id"], "GET /v2/pets/{pet_id}"),
        ("pets:removePet", &["petId"], "DELETE /v2/pets/{petId}"),
        ("pets:remove_pet", &["petId"], "DELETE /v2/pets/{petId}"),
    ] {
        let made = read(PETSTORE, &[handler(target, params)]).unwrap_or_else(|e| panic!("{e}"));
        let found = route(&made, name);
        assert_eq!((found.target.info().target().as_str(), found.stub), (target, false));
        assert_eq!(made.stubs.len(), 4, "{target}");
    }
}

#[test]
fn a_named_handler_goes_before_one_called_alike() {
    let spec = PETSTORE
        .replace("operationId: getPet", "operationId: getPet\n      x-exuvia-handler: zoo:pet");
    let handlers = [handler("shop:get_pet", &["petId"]), handler("zoo:pet", &["petId"])];
    let made = read(&spec, &handlers).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(route(&made, "GET /v2/pets/{petId}").target.info().target(), "zoo:pet");
    let wrong = refused(&spec.replace("zoo:pet", "zoo:pit"), &handlers);
    assert_eq!(
        wrong,
        "spec.yaml:45: there is no `zoo:pit`. Did you mean `zoo:pet`? \
         (at /paths/~1pets~1{petId}/get/x-exuvia-handler)"
    );
    // Its module is not there yet: that is what stubs are for.
    let made = read(&spec, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(made.stubs.len(), 5);
    assert_eq!(made.warnings.len(), 1);
}

#[test]
fn names_that_could_be_several_things_are_an_error_that_names_them() {
    let both = [handler("a:get_pet", &["petId"]), handler("b:get_pet", &["petId"])];
    let told = refused(PETSTORE, &both);
    assert!(told.contains("`getPet` could be a:get_pet or b:get_pet"), "{told}");
    let twice = [handler("a:get_pet", &["pet_id", "petid"])];
    let told = refused(PETSTORE, &twice);
    assert!(told.contains("`petId` could be the parameter `pet_id` or `petid`"), "{told}");
    assert!(told.contains("/components/parameters/petId"), "{told}");
}

#[test]
fn a_handler_that_lacks_a_parameter_is_an_error_that_names_both_places() {
    let told = refused(PETSTORE, &[handler("shop:get_pet", &["pet_ids"])]);
    assert_eq!(
        told,
        "spec.yaml:75: GET /v2/pets/{petId} has the parameter `petId` in its path, and its handler \
         shop:get_pet has none of that name: get_pet(pet_ids). Did you mean `pet_ids`? \
         (at /components/parameters/petId)"
    );
}

#[test]
fn parameters_come_from_where_the_document_says() {
    let shop = fake("shop:list_pets", &["limit", "tags", "near", "is_alive", "x_tenant"]);
    let spec = PETSTORE.replace("name: alive", "name: isAlive");
    let target: Arc<dyn Target> = shop.clone();
    let made = read(&spec, &[target]).unwrap_or_else(|error| panic!("{error}"));
    let list = route(&made, "GET /v2/pets");
    assert_eq!(list.options.headers["x_tenant"], "x-tenant");
    assert_eq!(list.query_params(), ["limit", "tags", "near", "isAlive"]);
    assert_eq!(list.options.status, Some(200));
    call(&list.target, asking(&[("isAlive", "true"), ("limit", "3")], "")).unwrap();
    let calls = shop.calls.lock().unwrap();
    let given: Vec<_> = calls[0].text_arguments.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(given, ["is_alive", "limit"]);
}

#[test]
fn faults_of_renamed_parameters_are_told_in_the_names_of_the_document() {
    let shop = fake("shop:list_pets", &["limit", "tags", "near", "is_alive", "x_tenant"]);
    let fails = Some(Failure::input("/is_alive/0", "is wrong"));
    let shop: Arc<dyn Target> =
        Arc::new(Fake { info: shop.info.clone(), calls: Default::default(), fails });
    let spec = PETSTORE.replace("name: alive", "name: isAlive");
    let made = read(&spec, &[shop]).unwrap_or_else(|error| panic!("{error}"));
    let told = call(&route(&made, "GET /v2/pets").target, asking(&[], ""));
    assert_eq!(told, Err(Failure::input("/isAlive/0", "is wrong")));
}

#[test]
fn a_handler_that_needs_more_than_it_is_given_is_told_at_the_start() {
    let made = read(PETSTORE, &[handler("shop:get_pet", &["petId", "zone"])]);
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        made.warnings,
        ["GET /v2/pets/{petId} gives shop:get_pet no `zone`, which it needs"]
    );
}

#[test]
fn what_is_wrong_with_a_document_does_not_depend_on_handlers() {
    let spec = PETSTORE.replacen("schemas/Pet", "schemas/Pat", 1);
    let list = handler("shop:list_pets", &["limit", "tags", "near", "alive", "x_tenant"]);
    assert_eq!(refused(&spec, &[list]), refused(&spec, &[]));
}
