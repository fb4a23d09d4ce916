(function(d,w){
var s=d.currentScript,u=s.src.replace(/\/beacon\.js.*$/,NT_EVENTS),q=[],c=NT_COOKIE,z;
function id(){var m=d.cookie.match(new RegExp("(?:^|; )"+c+"=([^;]*)"));return m&&decodeURIComponent(m[1])}
function uid(){return Date.now().toString(36)+Math.random().toString(36).slice(2)}
function add(t,e,more){var x=JSON.parse(e.getAttribute("data-nt-track")),
o={type:t,channel:"web",messageId:uid(),originalTimestamp:new Date().toISOString(),context:{library:{name:"ninetailed-wsgi beacon",version:"1.0.0"}},componentType:"Entry",componentId:x[0],experienceId:x[1],variantIndex:x[2]};
for(var k in more)o[k]=more[k];q.push(o);clearTimeout(z);z=setTimeout(flush,1e3)}
function flush(){var p=id();if(!q.length)return;var e=q;q=[];if(!p)return;
var b=JSON.stringify([{profile:{id:p},events:e}]);
if(!(navigator.sendBeacon&&navigator.sendBeacon(u,b)))fetch(u,{method:"POST",body:b,keepalive:true})}
function start(){if(!w.IntersectionObserver)return;
var t=new Map,o=new IntersectionObserver(function(l){l.forEach(function(i){var e=i.target;
clearTimeout(t.get(e));if(i.intersectionRatio>=.5||i.intersectionRect.height>=innerHeight/2)t.set(e,setTimeout(function(){o.unobserve(e);add("component",e,{viewId:uid(),viewDurationMs:1e3})},1e3))})},{threshold:[0,.5]});
[].forEach.call(d.querySelectorAll("[data-nt-track]"),function(e){o.observe(e)});
d.addEventListener("click",function(v){var e=v.target.closest&&v.target.closest("[data-nt-track]");if(e)add("component_click",e)},true);
d.addEventListener("visibilitychange",function(){if(d.visibilityState==="hidden")flush()});w.addEventListener("pagehide",flush)}
d.readyState==="loading"?d.addEventListener("DOMContentLoaded",start):start()
})(document,window);
