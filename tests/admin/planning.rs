//! What if, as whoever types it sees it, and as a program that listens hears it.

use common::wire::admin::v1::{
    CreatePlanRequest, WatchPlanningRequest, plan_service_client::PlanServiceClient,
    watch_planning_response::Told,
};
use tonic::Code;

use super::{channel, world::World};

const SPARE: &str = "name=spare,cpu=4,memory=2GiB,label=rack=3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_with_another_machine_or_of_another_time_is_planned_on() {
    let world = World::new().await;

    let added = world.ctl(&["plan", "what-if", "--add-vm", SPARE, "--budget", "5"]).await;
    assert_eq!((added.code, added.err.as_str()), (0, ""), "nobody waits at a terminal: {added:?}");
    for part in ["assumed: spare has a host of its own", "spare", "lower bound", "at most"] {
        assert!(added.out.contains(part), "{part}: {added:?}");
    }
    let json = world.ctl(&["plan", "what-if", "--add-vm", SPARE, "-o", "json", "--progress"]).await;
    assert!(json.err.contains(" s  as it stands") && json.err.contains(" s  as asked"), "{json:?}");
    let costs = |side: &str| json.json()[side]["cost_before"].as_f64().unwrap();
    assert!(costs("as_asked") > costs("as_it_stands"), "one more machine costs more");

    let then = world.ctl(&["plan", "what-if", "--window", "w-1"]).await;
    assert!(then.out.contains("assumed: window w-1 and 0 before it"), "{then:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_plan_on_is_named_with_a_remedy() {
    let world = World::new().await;
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--add-vm", "name=x,cpu=4"], 2, "memory is missing"),
        (&["--add-vm", "name=web,cpu=4,memory=1GiB"], 6, "add: there is a machine \"web\" already"),
        (&["--add-vm", "name=x,cpu=4,memory=1GiB,host=mars"], 6, "write one of host-1"),
        (&["--add-vm", "name=x,cpu=4,memory=9GiB,host=host-1"], 6, "give it less"),
        (&["--window", "w-9"], 6, "window w-9 is not kept; the oldest that is kept is w-1"),
        (&["--window", "w-2"], 6, "window w-2 is kept without the rows that planning needs"),
        (&["--window", "2001-01-01T00:00:00Z"], 6, "no window that is kept had closed by then"),
        (&["--window", "a b"], 6, "write an id that `sinterctl windows` lists, or a time"),
    ];
    for (words, code, part) in cases {
        let told = world.ctl(&[&["plan", "what-if"][..], words].concat()).await;
        assert_eq!(told.code, code, "{words:?}: {told:?}");
        assert!(told.err.contains(part), "{words:?}: {told:?}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_planning_hears_how_it_goes_and_the_plans_last() {
    let world = World::new().await;
    let channel = channel(&world.place.path().join("admin")).await;
    let mut plans = PlanServiceClient::new(channel);
    let asked = CreatePlanRequest { window: "w-1".to_owned(), ..CreatePlanRequest::default() };
    let request = WatchPlanningRequest { asked: Some(asked.clone()) };
    let mut stream = plans.watch_planning(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        told.push(message.told.unwrap());
    }

    let Some(Told::Planned(planned)) = told.pop() else { panic!("no plans: {told:?}") };
    let doing = told.iter().map(|told| match told {
        Told::Progress(progress) => progress.doing.as_str(),
        Told::Planned(_) => "plans before the end",
    });
    let doing: Vec<_> = doing.collect();
    assert_eq!(doing, ["reading window 1 of 1", "as it stands", "as asked"]);
    assert_eq!(plans.create_plan(asked.clone()).await.unwrap().into_inner(), planned);

    let request =
        WatchPlanningRequest { asked: Some(CreatePlanRequest { budget_ms: 600_001, ..asked }) };
    let refused = plans.watch_planning(request).await.unwrap().into_inner().message().await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "budget_ms: is 600001; write 600000 at most");
    world.close().await;
}
